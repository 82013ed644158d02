"""Runs of the worker that cost no start of Python: everything is imported once, and each run is a fork.

    python fork_server.py

Reads JSON lines ``[ERRORS, COMMAND...]``; for each it forks, prints the child's process id, and later its exit status.
The child stops itself before it begins, so that a tracer can be attached, and its stderr goes to the file ERRORS.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

import numpy  # noqa: F401
import rewrite_worker

import ckpt_tools.operations.migration
import ckpt_tools.operations.repairing  # noqa: F401


def work(errors: str, *command: str) -> int:
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        return rewrite_worker.main(*command)
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stderr.flush()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(work(*json.loads(line)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
