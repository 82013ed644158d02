"""Printing where it may go wrong: into a pipe whose reader leaves, onto a full disk, into nothing at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from ckpt_tools.console.language import label
from ckpt_tools.errors import StorageError

# What the system says when what is printed cannot be written.
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG)


@contextlib.contextmanager
def while_read() -> Iterator[None]:
    """Print in the block. The reader of a pipe (head, a closed pager) may leave when it has seen enough.

    What is being done goes on all the same, unheard, and ends with its own exit code. Raises StorageError when the
    answer cannot be written for another reason: somebody wants it, and does not have it.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _go_on_unheard()
    except OSError as error:
        _go_on_unheard()
        message = f"cannot write the answer: {error.strerror or error}"
        hint = "free some space, or redirect the output elsewhere, and run the same command again"
        raise StorageError(message, path="standard output", hint=hint) from error


@contextlib.contextmanager
def if_heard() -> Iterator[None]:
    """Print what must not stop anything, on stderr: when nobody can hear it, the exit code tells the rest."""
    with contextlib.suppress(OSError):
        yield


def open_streams() -> None:
    """Before anything is opened: the three standard streams are there, also when the shell closed them.

    Else the next file that is opened would be taken for one of them. What is printed on a closed stdout is an error.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    # They are None then, whatever their types say.
    sys.stdout = sys.stdout or _Closed()
    sys.stderr = sys.stderr or _nowhere()


def end_of_output(code: int) -> int:
    """The exit code, once all that was printed is written."""
    try:
        with while_read():
            pass
    except StorageError as error:
        with if_heard():
            print(f"{label('error', error.id)}{error}", file=sys.stderr)
        code = error.exit_code
    try:
        sys.stderr.flush()
    except OSError:
        # What is still in its buffer fails once more as Python ends, which makes the exit code 120.
        if not _to_nowhere(sys.stderr):
            sys.stderr = _nowhere()
    return code


def _go_on_unheard() -> None:
    """Python must not complain at exit about what it could not write."""
    if not _to_nowhere(sys.stdout):
        sys.stdout = _nowhere()


def _to_nowhere(stream: TextIO) -> bool:
    """Whether what is written to a stream from now on, and what waits in its buffer, is nobody's."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return False
    return True


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


class _Closed(io.TextIOBase):
    """A stdout that was closed before the program began."""

    encoding = "utf-8"

    def write(self, text: str) -> int:  # noqa: ARG002 (as every stream has it)
        raise OSError(errno.EBADF, "the standard output is closed")
