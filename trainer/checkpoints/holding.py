"""Which checkpoint of an experiment holds a best model, before anything relies on it. Needs no TensorFlow.

A state knows what the best scored and at which step. Whether those weights are still there is another question: a disk
may have lost them, a person may have removed them, and beside them may lie the best of other data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ckpt_tools.analysis.newest import by_number, is_salvaged
from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import CkptError, StorageError
from ckpt_tools.format.filenames import STATE_FILE, index_name
from ckpt_tools.fs import local
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.trainer import ID as TRAINER
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import Evidence
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.saved_state import SavedState, read_saved_state


def snapshot(experiment: Experiment) -> Mapping[str, Fingerprint]:
    """What tells that an experiment's checkpoints are still those that were read: their indexes and state files."""
    seen = {}
    for directory in (experiment.path, experiment.best_line, experiment.latest_line):
        if not local.is_directory(directory, follow=True):
            continue
        for name in [STATE_FILE, *(index_name(prefix) for prefix in prefixes_in(directory))]:
            path = os.path.join(directory, name)
            if local.is_file(path, follow=True):
                seen[path] = local.fingerprint(path)
    return seen


def holder(experiment: Experiment, stored: SavedState) -> str | None:
    """The whole checkpoint that holds the best which a state of this trainer knows of; None when it is lost.

    The line of best ones comes first. A state that was saved at the best holds it too, if its file still exists.
    Raises StorageError when the system does not let one be read: that is not yet lost.
    """
    for directory in (experiment.best_directory, experiment.latest_line):
        for prefix in _newest_first(directory):
            if _holds(prefix, stored) and _is_whole(prefix):
                return prefix
    return None


def best_where(experiment: Experiment, fits: Callable[[Mapping[str, Any]], bool]) -> tuple[str, SavedState] | None:
    """The newest whole checkpoint of this trainer in the line of best ones whose metric's identity ``fits``, and what
    it stores."""
    for prefix in _newest_first(experiment.best_line):
        found = _read(prefix)
        if found is not None and found.run_state.has_best and fits(found.identity) and _is_whole(prefix):
            return prefix, found
    return None


def _newest_first(directory: str) -> Iterator[str]:
    if local.is_directory(directory, follow=True):
        for name in sorted(prefixes_in(directory), key=by_number, reverse=True):
            if not is_salvaged(name):
                yield os.path.join(directory, name)


def _holds(prefix: str, stored: SavedState) -> bool:
    """Whether these are the best weights, or better ones. One of an older trainer tells by its value or its step."""
    known = stored.run_state
    try:
        with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
            if lineage.id != TRAINER:
                value = lineage.best_metric.value if lineage.best_metric.status == "present" else None
                return lineage.step == known.best_step if value is None else value >= known.best_metric
            found = read_saved_state(checkpoint, lineage, "best", Evidence())
    except StorageError:
        raise
    except CkptError:
        return False
    if not found.run_state.has_best or found.run_state.step != found.run_state.best_step:
        return False  # it knows of the best, and is of a later step
    if found.identity == stored.identity:
        return found.run_state.best_metric >= known.best_metric
    return found.run_state.step == known.best_step  # the same weights, measured in another way


def _read(prefix: str) -> SavedState | None:
    try:
        with open_identified(prefix, ComiRecLineage, producer=TRAINER) as (checkpoint, lineage):
            return read_saved_state(checkpoint, lineage, "best", Evidence())
    except StorageError:
        raise
    except CkptError:
        return None


def _is_whole(prefix: str) -> bool:
    try:
        return all(finding.severity != "damage" for finding in verify(prefix).findings)
    except StorageError:
        raise
    except CkptError:
        return False
