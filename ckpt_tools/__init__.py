"""Inspect, verify, repair and backfill TensorFlow checkpoints, without TensorFlow."""

from __future__ import annotations

__version__ = "0.1.0"
