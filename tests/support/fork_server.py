"""Runs of the worker that cost no start of Python: everything is imported once, and each run is a fork.

    python fork_server.py

Takes ``[COMMAND...]`` of the worker, see `forking`.
"""

from __future__ import annotations

import numpy  # noqa: F401
import rewrite_worker
from forking import serve

import ckpt_tools.operations.migration
import ckpt_tools.operations.repairing  # noqa: F401

if __name__ == "__main__":
    serve(rewrite_worker.main)
