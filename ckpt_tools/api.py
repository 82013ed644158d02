"""The commands as functions: each returns the dataclass that ``ckpt COMMAND --json`` prints, which ``to_json()`` gives.

They print nothing. What a command says with exit code 1 is in ``findings`` of the answer; all other exit codes are
errors of `ckpt_tools.errors`. Every path may be what the command takes: a prefix, a file of a checkpoint, a directory,
an experiment, and where nothing is written a URL too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

# What a function needs is imported when it is called: none waits for another's.
if TYPE_CHECKING:
    from ckpt_tools.analysis.difference import Difference
    from ckpt_tools.analysis.inspection import Inspection
    from ckpt_tools.analysis.resume_forecast import Forecast
    from ckpt_tools.analysis.run_audit import Audit
    from ckpt_tools.analysis.verification import Verification
    from ckpt_tools.opened import OpenedCheckpoint
    from ckpt_tools.operations.backfilling import Outcome
    from ckpt_tools.operations.exporting import Export
    from ckpt_tools.operations.repairing import Repair
    from ckpt_tools.operations.undoing import Undone

Path = str | os.PathLike[str]


def open(path: Path) -> OpenedCheckpoint:
    """Open a checkpoint of any format: a mapping from names to lazy arrays.

    ``path`` is what ``ckpt inspect`` takes: a prefix, a file of the checkpoint, a directory, an experiment.
    Raises NotFoundError, CorruptError, UnsafeError, UnsupportedError as `ckpt_tools.readers.open_checkpoint` does.
    """
    from ckpt_tools.opened import OpenedCheckpoint

    return OpenedCheckpoint(path)


def inspect(path: Path, *, digest: bool = False, stats: bool = False, filter: str | None = None) -> Inspection:
    """What a checkpoint holds: format, lineage, step, best_metric, tensors. Damage of a part is among the findings.

    Args:
        path: what ``ckpt inspect`` takes.
        digest: add the SHA-256 of each tensor's value (little-endian bytes).
        stats: add minimum, maximum, mean and the number of NaNs of each numeric tensor.
        filter: only tensors whose stored, canonical or full name matches this glob.

    Raises NotFoundError, CorruptError, UnsafeError, UnsupportedError.
    """
    from ckpt_tools.analysis.inspection import inspect

    return inspect(os.fspath(path), digest=digest, stats=stats, filter=filter)


def verify(path: Path, *, quick: bool = False) -> Verification:
    """Whether every byte agrees with its checksum: ``whole``, or else ``damaged`` and ``diagnosis``, the cause.

    ``quick`` reads the index alone, and looks whether the files have the sizes that it needs. A file too damaged to be
    opened is an answer, not an error. Raises NotFoundError, UnsafeError, UnsupportedError.
    """
    from ckpt_tools.analysis.verification import verify

    return verify(path, quick=quick)


def resume_check(
    path: Path,
    *,
    trainer: Literal["trainer", "comirec-keras", "comirec-keras-fixed", "comirec-tf1"] = "trainer",
    keras: int = 3,
) -> Forecast:
    """What a resume would do, without training: ``verdict`` safe, at-risk or blocked, and ``sentence``.

    ``trainer`` says with which program, ``keras`` (2 or 3) under which Keras the port would run. Reads every byte.
    Raises UsageError for another trainer, NotFoundError, UnsafeError, UnsupportedError.
    """
    from ckpt_tools.analysis.resume_forecast import forecast

    return forecast(os.fspath(path), trainer=trainer, keras=keras)


def diff(a: Path, b: Path) -> Difference:
    """How two checkpoints of any formats differ: ``equal``, or ``only_a``, ``only_b`` and ``changed``.

    Tensors that cannot be read are findings. Raises NotFoundError, CorruptError, UnsafeError, UnsupportedError.
    """
    from ckpt_tools.analysis.difference import diff

    return diff(a, b)


def audit(root: Path, *, verify: bool = False, filter: Sequence[str] = (), sort: str | None = None) -> Audit:
    """Every run below a directory, a row for each in ``rows``.

    Args:
        root: a directory at any height above the runs.
        verify: read every byte, not only indexes and the sizes of files.
        filter: as ``--filter``: ``COLUMN=GLOB``, ``COLUMN>NUMBER``, or a text in the path; all must hold.
        sort: the column to order by, ``-COLUMN`` for descending.

    Raises NotFoundError when the root is no directory, UsageError for an unknown column.
    """
    from ckpt_tools.analysis.run_audit import audit, selector

    choose = selector(list(filter), sort)
    return choose(audit(os.fspath(root), verify=verify))


def backfill(
    path: Path,
    *,
    data: Path | None = None,
    top_n: int = 50,
    split: Literal["valid", "test"] = "valid",
    value: float | None = None,
    from_logs: bool = False,
    metric: str | None = None,
    mode: Literal["min", "max"] | None = None,
    unit: str | None = None,
    into: str | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Outcome:
    """Find the best metric of one run and write it into its checkpoint; the originals are kept for `undo`.

    By default it is measured by an installed evaluator on ``data``, the directory with DATASET_valid.txt.

    Args:
        path: an experiment, or a checkpoint.
        data: found beside ``best_model`` when it is not given.
        top_n: the length of the recommended list.
        split: which users; the old trainers' best is of ``valid``.
        value: write this instead of measuring.
        from_logs: take the value from the run's own logs instead of measuring.
        metric: the name of the metric, of another trainer's run; most names tell the ``mode``.
        mode: whether less or more of it is better.
        unit: for example ``percent``.
        into: the key of a variable to write into, instead of best_metric.
        dry_run: find the value and the plan; write nothing.
        force: also when another value is stored, or no log has the measured one.

    Raises UsageError, MismatchError, NotFoundError, CorruptError, UnsafeError, StorageError, BusyError,
    UnsupportedError; nothing is written then.
    """
    from ckpt_tools.operations.backfilling import Options, backfill

    where = None if data is None else os.fspath(data)
    options = Options(
        where, top_n, split, value, from_logs, force, dry_run, metric=metric, mode=mode, unit=unit, into=into
    )
    return backfill(os.fspath(path), options)


def repair(path: Path, *, dry_run: bool = False) -> Repair:
    """Put right a ``checkpoint`` file, what killed saves left and a lost index; keep what is whole of damage.

    ``actions`` is what was done (with ``dry_run``: would be), ``lost`` what could not be kept. What was there before
    is kept for `undo`. Raises NotFoundError, BusyError, StorageError, UnsafeError.
    """
    from ckpt_tools.operations.repairing import repair

    return repair(os.fspath(path), dry_run=dry_run)


def undo(path: Path, *, to: str | None = None) -> Undone:
    """Take back the last change of a checkpoint, or all since and including the one with the id ``to``, byte for byte.

    Raises NotFoundError when there is none, BusyError when the checkpoint was written again since.
    """
    from ckpt_tools.operations.undoing import undo

    return undo(os.fspath(path), to=to)


def export(
    path: Path,
    output: Path,
    *,
    names: Literal["canonical", "stored", "keras"] | None = None,
    model: str | None = None,
    force: bool = False,
) -> Export:
    """Write the tensors of a checkpoint to a new file: .safetensors, .npz, .weights.h5 or .h5, as its name ends.

    Args:
        path: what ``ckpt export`` takes.
        output: the new file.
        names: ``keras`` for HDF5 only; by default keras where Keras can load it, else canonical.
        model: which of several models in the checkpoint, for Keras.
        force: replace a file that is there.

    Raises UsageError, MismatchError, NotFoundError, CorruptError, UnsafeError, StorageError, UnsupportedError;
    nothing is written then.
    """
    from ckpt_tools.operations.exporting import export

    return export(path, os.fspath(output), names=names, model=model, force=force)
