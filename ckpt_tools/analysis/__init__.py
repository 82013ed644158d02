"""Questions about checkpoints and runs: each returns a dataclass, prints nothing and writes nothing."""
