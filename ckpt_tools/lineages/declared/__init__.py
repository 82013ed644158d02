"""Lineages that are written down, not programmed: a ``ckpt.toml`` beside somebody's runs, and the presets.

A declaration is data. It says where a run keeps its best, its newest and its logs, which metric the best is chosen by,
what its variables are, and how it is evaluated again; it never runs anything by itself.
"""
