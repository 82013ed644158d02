"""Asking about a checkpoint while a trainer may be writing it.

TensorFlow replaces a checkpoint file by file, so that for a moment the files do not fit each other. What looks damaged
or gone is therefore believed only when all that was looked at is the same before and after the question, and still
after a pause: else the question is asked again, a few times, and when the files never come to rest the answer is that
they are busy. The clock is not asked: that of a file server may differ from this machine's.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ckpt_tools.errors import BusyError, CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.fs import paths, witness

# How long nothing may change before what looks damaged is believed: longer than TensorFlow takes between two files.
QUIET_SECONDS = 0.3
# How long to wait before asking again when something did change.
PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
# Findings that a save may bring about for a moment.
_DOUBTFUL = (CorruptError.id, NotFoundError.id, "orphan")

Answer = TypeVar("Answer")
Rest = ParamSpec("Rest")
Doubt = Callable[[Any], bool]


def is_doubtful(answer: Any) -> bool:
    """Whether an answer tells of damage, or of something that is not there."""
    return any(finding.id in _DOUBTFUL for finding in getattr(answer, "findings", ()))


def steady(question: Callable[Rest, Answer], *, doubtful: Doubt = is_doubtful) -> Callable[Rest, Answer]:
    """A question, the same but asked until its answer can be believed.

    A question within a question is asked once: the outer one is asked again. Raises BusyError when the files keep
    changing, else what the question raises.
    """

    @functools.wraps(question)
    def ask(*arguments: Rest.args, **options: Rest.kwargs) -> Answer:
        outer = witness.current()
        if outer is not None:
            try:
                answer = question(*arguments, **options)
            except CkptError:
                outer.doubted = True  # whatever the outer question makes of it
                raise
            outer.doubted |= doubtful(answer)
            return answer
        for pause in PAUSES:
            if pause:
                time.sleep(pause)
            failure: CkptError | None = None
            with paths.one_look(), witness.watching() as seen:
                try:
                    answer = question(*arguments, **options)
                    believed = not (seen.doubted or doubtful(answer))
                except CkptError as error:
                    if not _may_pass(error):
                        raise
                    failure, believed = error, False
            if believed and not seen.changed_unchecked():
                return answer
            if believed or seen.changed():
                continue
            let_rest()
            if not seen.changed():
                if failure is not None:
                    raise failure
                return answer
        raise BusyError(
            "is being written again and again",
            path=_path(arguments),
            hint="run the same command again when the trainer rests",
        )

    return ask


def let_rest() -> None:
    """Wait as long as nothing may change before what looks damaged is believed."""
    time.sleep(QUIET_SECONDS)


def _may_pass(error: CkptError) -> bool:
    """Whether a save that is under way may be behind an error; a file server calls a replaced file stale."""
    cause = error.__cause__
    stale = isinstance(cause, OSError) and cause.errno == errno.ESTALE
    return stale or isinstance(error, (BusyError, CorruptError, NotFoundError, UnsafeError, UnsupportedError))


def _path(arguments: tuple[object, ...]) -> str | None:
    first = arguments[0] if arguments else None
    return os.fspath(first) if isinstance(first, (str, os.PathLike)) else None
