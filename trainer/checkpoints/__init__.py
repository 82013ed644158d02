"""What a run saves, how, and which of it is kept."""
