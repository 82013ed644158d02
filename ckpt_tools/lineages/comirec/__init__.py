"""The five producers of ComiRec checkpoints."""
