"""Which checkpoints of a line go when a newer one is there, and what a save that was killed left. Needs no TensorFlow.

A checkpoint goes in two steps: its index moves into the directory of unfinished saves, which makes it none; then its
data is removed. A save comes in the opposite order. Killed between, both leave data in the line whose index is among
the unfinished: that index proves whose the data is. Data without an index anywhere may be somebody's last copy, and
is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

from ckpt_tools.errors import CkptError, StorageError
from ckpt_tools.format.filenames import (
    INDEX,
    STATE_FILE,
    UNFINISHED_SAVE,
    bundle_part,
    index_name,
    is_data,
    temporary_of,
)
from ckpt_tools.fs import durable, local
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.trainer import ID as TRAINER
from ckpt_tools.lineages.names import METRIC
from ckpt_tools.readers.location import latest_in
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.ledger import history
from ckpt_tools.runs.logs import Evidence
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.saved_state import SavedState, read_saved_state, run_state_of

# How many of the newest states stay.
KEEP = 2


def doomed(prefixes: Iterable[str], keep: int, experiment: Experiment | None = None) -> list[str]:
    """Of the checkpoints of a line, newest first, those that go so that ``keep`` of this trainer's stay.

    Other producers' and rewritten ones always stay; with an ``experiment``, so does one that is better than what its
    line of best ones holds, or the best that there is when that line is lost. Without one this is a line of best ones,
    and ``keep`` stay of each validation split: what scores best on other data says nothing about these.
    """
    ours = [prefix for prefix in prefixes if _is_ours(prefix)]
    if experiment is not None:
        return [old for old in ours[keep:] if not _holds_the_best(old, experiment)]
    splits = [_split_of(prefix) for prefix in ours]
    return [old for place, old in enumerate(ours) if splits[:place].count(splits[place]) >= keep]


def retire(directory: str, prefixes: Collection[str]) -> None:
    """Delete checkpoints of a line. Killed at any moment, the next `tidy` ends it."""
    if not prefixes:
        return
    unfinished = os.path.join(directory, UNFINISHED_SAVE)
    durable.make_directory(unfinished)
    for prefix in prefixes:
        index = index_name(prefix)
        durable.rename(index, os.path.join(unfinished, os.path.basename(index)))
    # Else a power loss could bring an index back whose data is gone.
    for changed in (unfinished, directory):
        durable.sync_directory(changed)
    tidy(directory)


def tidy(directory: str) -> None:
    """Remove what a killed save of this trainer left in a line, nothing else; for whoever has the line's lock."""
    for name in local.list_directory(directory):
        if temporary_of(name) == STATE_FILE:
            durable.remove(os.path.join(directory, name))
    unfinished = os.path.join(directory, UNFINISHED_SAVE)
    if local.is_link(unfinished):  # it leads somewhere, and what is there is not ours
        durable.remove(unfinished)
    if not local.is_directory(unfinished, follow=True):
        return
    for name in local.list_directory(unfinished):
        prefix = os.path.join(directory, name.removesuffix(INDEX))
        if name.endswith(INDEX) and not local.is_there(index_name(prefix)):
            for path in data_files(prefix):
                durable.remove(path)
                durable.sync_directory(directory)  # the proof goes after what it proves
    for folder, _, names in os.walk(unfinished, topdown=False):
        for name in names:
            durable.remove(os.path.join(folder, name))
        durable.remove_directory(folder)


def data_files(prefix: str) -> list[str]:
    """The data files of a prefix, whether or not there is an index."""
    directory, name = os.path.split(prefix)
    found = {file: bundle_part(file) for file in local.list_directory(directory) if is_data(file)}
    return [os.path.join(directory, file) for file, part in found.items() if part and part.prefix == name]


def held_best(experiment: Experiment) -> SavedState | None:
    """What the line of best ones holds; None when that is not of this trainer, or cannot be restored.

    Raises StorageError when the system does not let it be read: it may be as good as ever.
    """
    try:
        with open_identified(latest_in(experiment.best_line), ComiRecLineage, producer=TRAINER) as (
            checkpoint,
            lineage,
        ):
            if any(finding.severity == "damage" for finding in checkpoint.outline()):
                return None
            return read_saved_state(checkpoint, lineage, "best", Evidence())
    except StorageError:
        raise
    except CkptError:
        return None


def _is_ours(prefix: str) -> bool:
    """Whether this trainer wrote the checkpoint: what cannot be read, or was rewritten by ``ckpt``, it did not.

    A checkpoint that was migrated in place looks like one of ours, but its backup and ledger are somebody's way back.
    """
    try:
        if history(prefix):
            return False
        with open_identified(prefix, ComiRecLineage, producer=TRAINER):
            return True
    except CkptError:
        return False


def _split_of(prefix: str) -> Any:
    """The digest of the split that a checkpoint of this trainer was measured on; None where it was not by this one."""
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        return lineage.document(checkpoint, METRIC).get("digest")


def _holds_the_best(prefix: str, experiment: Experiment) -> bool:
    """Whether a checkpoint is of the best weights, and the line of best ones has none as good."""
    try:
        run_state = run_state_of(prefix)
        if run_state is None or not run_state.is_best:
            return False
        held = held_best(experiment)
    except StorageError:
        return True  # it may
    except CkptError:
        return False
    return held is None or held.run_state.best_metric < run_state.best_metric
