"""How a run begins: new, or out of a checkpoint. Nothing here writes, and nothing here needs TensorFlow.

Resuming follows these rules:

 1. ``best`` (the default) continues from the best checkpoint, whoever wrote it; ``latest`` from the newest state of
    this trainer. When there is none, the resume is refused.
 2. Hyper-parameters come from the checkpoint and the experiment's name. A flag that contradicts them is refused;
    only ``--test-iter`` and ``--patience`` may change.
 3. Every variable and both of Adam's moments must be in the checkpoint, by name and with the same shape.
 4. The weights are measured on the validation split before anything is trained or written.
 5. If a recall of these weights is stored, the measured one must equal it within 1e-6, and the split must be the one
    it was measured on (when that is stored too).
 6. If none is stored, the run's logs must contain the measured recall, within 1e-6; without logs it is taken as it
    is. It then becomes the best, and is saved before the first step.
 7. ``--accept-metric`` overrides 5 and 6: what was measured now is believed. It becomes the best when the best was
    what disagreed, or was measured on another split.
 8. Adam's moments and step continue. A step that the checkpoint no longer tells (TensorFlow 1 after some 87,000
    updates) counts as 10^6 for Adam, and the best logged step for the run.
 9. A run that had run out of patience continues from ``latest`` only with a larger ``--patience``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ckpt_tools.errors import CkptError, MismatchError, NotFoundError, UnsupportedError, UsageError
from ckpt_tools.evidence import Evidence, collect
from ckpt_tools.experiments import Experiment
from ckpt_tools.findings import Finding
from ckpt_tools.lineages import Lineage, identify
from ckpt_tools.lineages.trainer import ID as TRAINER
from ckpt_tools.readers import Checkpoint, open_checkpoint
from trainer.config import UNKNOWN_ITEM_COUNT, TrainConfig, validate
from trainer.data import Interactions, default_data_dir, read_split, require_ids_below, split_path
from trainer.evaluate import METRIC, Progress, evaluate, numpy_model
from trainer.metrics import Metrics
from trainer.restoring import config_of
from trainer.sampling import FIRST_CUT, BatchSampler
from trainer.standing import STORED, Standing
from trainer.variables import UNKNOWN_STEP, initial_variables, restored_variables

TOLERANCE = 1e-6
VALID = "valid"
METRIC_KEY = "state/metric"
CONFIG_KEY = "state/config"

Line = Literal["best", "latest"]


@dataclass(frozen=True)
class Start:
    """All that training needs to begin. ``variables`` by canonical name; ``first`` was measured on them.

    ``resumed_from`` is a prefix, None for a new run. ``save_best``: these weights are the best, and no checkpoint
    says so yet.
    """

    config: TrainConfig
    sampler: BatchSampler
    valid: Interactions
    variables: dict[str, np.ndarray]
    standing: Standing
    first: Metrics
    resumed_from: str | None
    save_best: bool
    findings: tuple[Finding, ...] = ()


def metric_identity(config: TrainConfig, valid: Interactions) -> dict[str, Any]:
    """What makes two recalls comparable; stored as JSON in ``state/metric``."""
    return {"name": METRIC, "top_n": config.top_n, "split": VALID, "digest": valid.digest}


def new_run(config: TrainConfig, data_dir: str, *, progress: Progress | None = None) -> Start:
    """A run from fresh weights. They are measured too: they are the first best.

    Raises UsageError (hyper-parameters, ids beyond ``item_count``), NotFoundError and CorruptError (data).
    """
    train, valid = _read_data(data_dir, config)
    if config.item_count == UNKNOWN_ITEM_COUNT:
        config = replace(config, item_count=_items_needed(data_dir, config, train, valid))
    validate(config)
    sampler = _sampler(config, train, valid, UsageError)
    variables = initial_variables(config)
    first = measure(config, variables, valid, progress)
    return Start(
        config=config,
        sampler=sampler,
        valid=valid,
        variables=variables,
        standing=Standing().as_best(first.recall),
        first=first,
        resumed_from=None,
        save_best=True,
        findings=_data_findings(sampler),
    )


def resumed_run(
    experiment: Experiment,
    line: Line,
    given: Mapping[str, Any],
    *,
    data_dir: str | None = None,
    accept_metric: bool = False,
    progress: Progress | None = None,
) -> Start:
    """A run out of one of the experiment's checkpoints, by the rules above.

    ``given`` are the flags that name hyper-parameters, None where left out; without ``data_dir`` the data is looked
    for where the original trainer has it. Raises NotFoundError (no checkpoint, no data), UnsupportedError (unknown
    producer or model), UsageError (contradicting flags), MismatchError (a variable, the recall, the data),
    CorruptError (damage).
    """
    prefix = _prefix(experiment, line)
    with open_checkpoint(prefix) as checkpoint:
        lineage = identify(checkpoint)
        if lineage is None:
            raise UnsupportedError(
                "the producer of this checkpoint is not known", path=prefix, hint=f"ckpt inspect {prefix}"
            )
        config = config_of(checkpoint, lineage, given)
        validate(config)
        variables = restored_variables(checkpoint, lineage, config)
        evidence = collect(experiment)
        stored = _stored(checkpoint, lineage, line, evidence)
    data_dir = data_dir or default_data_dir(experiment.root, config.dataset)
    train, valid = _read_data(data_dir, config)
    sampler = _sampler(config, train, valid, MismatchError)
    first = measure(config, variables, valid, progress)
    objections = list(_objections(stored, first.recall, valid.digest, evidence))
    if objections and not accept_metric:
        raise MismatchError(
            objections[0],
            path=prefix,
            hint="check --data-dir; to believe what was measured now, run again with --accept-metric",
        )
    standing = _continued(stored, first.recall, believed=bool(objections), digest=valid.digest)
    return Start(
        config=config,
        sampler=sampler,
        valid=valid,
        variables=variables,
        standing=replace(standing, stopped=standing.trials > config.patience),
        first=first,
        resumed_from=prefix,
        save_best=standing.is_best and (bool(objections) or stored.recall is None),
        findings=(
            *evidence.findings,
            *_data_findings(sampler),
            *(Finding("metric-accepted", "warning", text, prefix) for text in objections),
        ),
    )


def measure(
    config: TrainConfig,
    variables: Mapping[str, np.ndarray],
    valid: Interactions,
    progress: Progress | None = None,
) -> Metrics:
    """The metrics of these weights on the validation split."""
    return evaluate(numpy_model(config, variables), valid, maxlen=config.maxlen, top_n=config.top_n, progress=progress)


@dataclass(frozen=True)
class _Stored:
    """What a checkpoint says of its run. ``recall`` of exactly these weights and the ``digest`` of the split it was
    measured on are None where the checkpoint does not tell."""

    standing: Standing
    recall: float | None
    digest: str | None
    line: Line


def _prefix(experiment: Experiment, line: Line) -> str:
    if line == "best":
        return experiment.best_prefix()
    prefix = experiment.latest_prefix()
    if prefix is None:
        raise NotFoundError(
            "this experiment has no newest state: its trainer kept only the best, or saved nothing yet",
            path=experiment.latest_line,
            hint=f"trainer train {experiment.path} --resume",
        )
    return prefix


def _stored(checkpoint: Checkpoint, lineage: Lineage, line: Line, evidence: Evidence) -> _Stored:
    names = [name for name, _ in STORED.values()]
    if lineage.id == TRAINER:
        standing = Standing.from_tensors({name: lineage.read(checkpoint, name) for name in names})
        identity = json.loads(lineage.read(checkpoint, METRIC_KEY).item())
        if standing.step == UNKNOWN_STEP and evidence.best and identity.get("digest") is None:
            # Migrated from a checkpoint that had lost Adam's step: the log still knows that of the run.
            standing = replace(standing, step=evidence.best.step, best_step=evidence.best.step)
        recall = None if math.isnan(standing.recall) else standing.recall
        if line == "best" and lineage.best_metric.status == "present":
            recall = standing.best_metric  # after a backfill there is this one alone
        return _Stored(standing, recall, identity.get("digest"), line)
    step = lineage.step
    if step is None:
        step = evidence.best.step if evidence.best else 0
    best = lineage.best_metric
    if best.status != "present" or best.value is None:
        return _Stored(Standing(step), None, None, line)
    return _Stored(Standing(step).as_best(best.value), best.value, None, line)


def _objections(stored: _Stored, recall: float, digest: str, evidence: Evidence) -> Iterator[str]:
    """Why the measured recall cannot be that of the run so far, one sentence each."""
    if stored.digest not in (None, digest):
        yield "the validation split is not the one that the stored recall was measured on"
    if stored.recall is not None:
        if abs(float(np.float32(recall)) - stored.recall) > TOLERANCE:
            yield f"the stored recall is {stored.recall:.6f}, but these weights on this data give {recall:.6f}"
        return
    logged = [evaluation.recall for evaluation in evidence.evaluations]
    if stored.line == "best" and logged and min(abs(value - recall) for value in logged) > TOLERANCE:
        yield (
            f"these weights give recall {recall:.6f}, which the run never logged (its best is {max(logged):.6f}): "
            "this is probably not the data that it was trained on"
        )


def _continued(stored: _Stored, recall: float, *, believed: bool, digest: str) -> Standing:
    if stored.line == "best" and (believed or stored.recall is None):
        return stored.standing.as_best(recall)
    if not believed:
        return stored.standing
    if stored.digest != digest:  # the best was measured on another split: it says nothing here
        return stored.standing.as_best(recall)
    return replace(stored.standing, recall=float(np.float32(recall)))


def _read_data(data_dir: str, config: TrainConfig) -> tuple[Interactions, Interactions]:
    return read_split(data_dir, config.dataset, "train"), read_split(data_dir, config.dataset, VALID)


def _items_needed(data_dir: str, config: TrainConfig, *splits: Interactions) -> int:
    """The largest id of the data and one more; the test split counts where it is there."""
    if os.path.isfile(split_path(data_dir, config.dataset, "test")):
        splits = (*splits, read_split(data_dir, config.dataset, "test"))
    return max(int(split.items.max()) for split in splits) + 1


def _sampler(config: TrainConfig, train: Interactions, valid: Interactions, error: type[CkptError]) -> BatchSampler:
    """The batches of the run; raises ``error`` for an id that the item table has no row for."""
    for split in (train, valid):
        require_ids_below(split, config.item_count, error=error)
    return BatchSampler(train, config)


def _data_findings(sampler: BatchSampler) -> tuple[Finding, ...]:
    if not sampler.skipped:
        return ()
    message = f"{sampler.skipped} training users have fewer than {FIRST_CUT + 1} items and are never drawn"
    return (Finding("short-users", "note", message),)
