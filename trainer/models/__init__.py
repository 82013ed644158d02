"""The models, written once, their two backends and their variables."""
