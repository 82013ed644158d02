"""Asking about a checkpoint while a trainer may be writing it.

TensorFlow replaces a checkpoint file by file, so that for a moment the files do not fit each other. What looks
damaged or gone is therefore believed only when the files have been quiet: else the question is asked again, a few
times, and when the files never come to rest the answer is that they are busy.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, Protocol, TypeVar

from ckpt_tools import places
from ckpt_tools.errors import BusyError, CkptError, CorruptError, NotFoundError
from ckpt_tools.experiments import BEST_LINE, LATEST_LINE
from ckpt_tools.findings import Finding, exit_code
from ckpt_tools.storage import Fingerprint

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
# Longer than the time stamps of any file system are coarse.
QUIET_SECONDS = 2.5


class Answered(Protocol):
    @property
    def findings(self) -> Sequence[Finding]: ...


Answer = TypeVar("Answer", bound=Answered)
Rest = ParamSpec("Rest")


def steady(question: Callable[Rest, Answer]) -> Callable[Rest, Answer]:
    """A question whose first argument is a path, asked until its answer can be believed.

    Raises BusyError when the files keep changing, else what the question raises.
    """

    @functools.wraps(question)
    def ask(*arguments: Rest.args, **options: Rest.kwargs) -> Answer:
        path = os.fspath(str(arguments[0]))
        before = None
        for pause in (*PAUSES, None):
            failure: CkptError | None = None
            try:
                with places.one_look():
                    answer = question(*arguments, **options)
                if not exit_code(answer.findings):
                    return answer
            except (BusyError, CorruptError, NotFoundError) as error:
                failure = error
            seen = _look(path)
            if seen == before or not _changed_lately(seen):
                if failure is not None:
                    raise failure
                return answer
            before = seen
            if pause is not None:
                time.sleep(pause)
        raise BusyError(
            "is being written again and again", path=path, hint="run the same command again when the trainer rests"
        )

    return ask


def _look(path: str) -> dict[str, Fingerprint]:
    """The files beside or below a path, as they are now; a directory's own time tells of names that came or went."""
    found: dict[str, Fingerprint] = {}
    try:
        here = path if places.is_directory(path) else os.path.dirname(path) or "."
    except CkptError:
        return found
    for directory in (here, os.path.join(here, BEST_LINE), os.path.join(here, LATEST_LINE)):
        try:
            found[directory] = places.fingerprint(directory)
            names = places.scan(directory)
        except CkptError:
            continue
        found.update({os.path.join(directory, name): status.fingerprint for name, status in names.items()})
    return found


def _changed_lately(seen: Mapping[str, Fingerprint]) -> bool:
    now = time.time()
    return any(abs(now - each.mtime_ns / 1e9) < QUIET_SECONDS for each in seen.values())
