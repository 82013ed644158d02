"""The one place that prints, for both programs."""
