"""The runs that checkpoints belong to: their folders, logs, left-overs, and the ledger of what was changed."""
