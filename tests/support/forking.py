"""The loop of a script that does pieces of work in forks, so that each can be traced and killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from ckpt_tools.errors import CkptError


def serve(work: Callable[..., Any]) -> None:
    """For each JSON line on stdin call ``work`` with its items in a fork, which stops itself before it begins.

    Prints the child's process id, and later its exit code: the one that ``work`` returns, or that of its error.
    """
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_done(work, json.loads(line)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _done(work: Callable[..., Any], order: list[Any]) -> int:
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        found = work(*order)
    except CkptError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 70
    sys.stderr.flush()
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
