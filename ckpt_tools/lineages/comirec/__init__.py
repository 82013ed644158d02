"""ComiRec: who wrote its checkpoints, and which model each holds."""
