"""The data of a run: the interactions, how they are made, and what a step sees of them."""
