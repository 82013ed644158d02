"""Printing into a pipe whose reader may leave."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def while_read() -> Iterator[None]:
    """Print in the block. The reader of a pipe (head, a closed pager) may leave when it has seen enough.

    What is being done goes on all the same, unheard, and ends with its own exit code.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python must not complain at exit about what it could not write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
