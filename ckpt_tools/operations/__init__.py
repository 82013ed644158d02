"""What changes checkpoints, or makes new files of them: plans made true by transactions."""
