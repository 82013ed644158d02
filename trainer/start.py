"""How a run begins: new, or out of a checkpoint. Nothing here writes, and nothing here needs TensorFlow.

Resuming follows these rules:

 1. ``best`` (the default) continues from the best checkpoint, whoever wrote it; ``latest`` from the newest state of
    this trainer. A run of this trainer that was stopped before its first such save has only its best; ``latest`` then
    means that one. When there is neither, the resume is refused.
 2. Hyper-parameters come from the checkpoint and the experiment's name. A flag that contradicts them is refused;
    learning rate, batch size, test-iter, patience and N may change, and each change is reported.
 3. What neither tells (N, and MIND's K) comes from flags, else from whichever usual value gives a recall that the run
    logged, else from the defaults; which of these it was is reported.
 4. Every variable and both of Adam's moments must be in the checkpoint, by name and with the same shape.
 5. The weights are measured on the validation split before anything is trained or written.
 6. If a recall of these weights is stored, the measured one must equal it within 1e-6. A stored best that this trainer
    measured on another split, or at another N, is not comparable: the best is then measured again, which is reported.
 7. If none is stored, the run's logs must contain the measured recall, within 1e-6; without logs it is taken as it
    is. It then becomes the best, and is saved before the first step.
 8. MIND of the paper draws noise at each evaluation. A recall that somebody else logged or stored agrees when it is
    within that noise over several seeds; this trainer's own measurements repeat exactly.
 9. ``--accept-metric`` overrides 6 and 7: what was measured now is believed, and becomes the best when the best was
    what disagreed.
10. Adam's moments and step continue. A step that the checkpoint no longer tells (TensorFlow 1 after some 87,000
    updates) counts as 10^6 for Adam, and the best logged step for the run.
11. A run that had run out of patience continues with a larger ``--patience``, or with ``--continue-after-stop``, which
    starts the count again.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ckpt_tools.errors import CkptError, MismatchError, NotFoundError, UnsupportedError, UsageError
from ckpt_tools.evidence import Evidence, collect
from ckpt_tools.experiments import Experiment
from ckpt_tools.findings import Finding
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.trainer import ID as TRAINER
from ckpt_tools.newest import newest_whole
from ckpt_tools.readers import open_checkpoint
from trainer.config import UNKNOWN_ITEM_COUNT, TrainConfig, validate
from trainer.data import Interactions, default_data_dir, read_split, require_ids_below, split_path
from trainer.measuring import METRIC, Progress, evaluate, numpy_model, weight_names
from trainer.metrics import Metrics
from trainer.reproducing import Spread, agrees, reproduce
from trainer.restoring import notes, settings_of
from trainer.retention import held_best
from trainer.sampling import FIRST_CUT, BatchSampler
from trainer.standing import Standing
from trainer.stored import Line, Stored, newest_standing, read_stored
from trainer.variables import initial_variables, restored_variables

VALID = "valid"


@dataclass(frozen=True)
class Start:
    """All that training needs to begin. ``variables`` by canonical name; ``first`` was measured on them.

    ``resumed_from`` is a prefix, None for a new run; ``line`` says which of the run's two lines it belongs to.
    ``save_best``: these weights are the best, and no checkpoint says so yet. ``sources``: where each hyper-parameter
    came from. ``spread``: what MIND's routing noise does to the recall.
    """

    config: TrainConfig
    sampler: BatchSampler
    valid: Interactions
    variables: dict[str, np.ndarray]
    standing: Standing
    first: Metrics
    resumed_from: str | None
    line: Line | None
    save_best: bool
    findings: tuple[Finding, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    spread: Spread | None = None


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
        line=None,
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
    continue_after_stop: bool = False,
    progress: Progress | None = None,
) -> Start:
    """A run out of one of the experiment's checkpoints, by the rules above.

    ``given`` are the flags that name hyper-parameters, None where left out; without ``data_dir`` the data is looked
    for where the original trainer has it. Raises NotFoundError (no checkpoint, no data), UnsupportedError (unknown
    producer), UsageError (contradicting flags, an early stop), MismatchError (a variable, the recall, the data),
    CorruptError (damage).
    """
    prefix, fallback = _prefix(experiment, line)
    with open_checkpoint(prefix) as checkpoint:
        lineage = identify(checkpoint)
        if lineage is None:
            raise UnsupportedError(
                "the producer of this checkpoint is not known", path=prefix, hint=f"ckpt inspect {shlex.quote(prefix)}"
            )
        settings = settings_of(checkpoint, lineage, given)
        validate(settings.config)
        variables = restored_variables(checkpoint, lineage, settings.config)
        evidence = collect(experiment)
        stored = read_stored(checkpoint, lineage, line, evidence)
    stopped = _early_stop(experiment, stored, settings.config, continue_after_stop)
    data_dir = data_dir or default_data_dir(experiment.root, settings.config.dataset)
    train, valid = _read_data(data_dir, settings.config)
    expected = [evaluation.recall for evaluation in evidence.evaluations] if stored.recall is None else [stored.recall]
    if stored.measured_here:  # then nothing is left to be found out
        expected = []
    settings, first, spread = reproduce(settings, variables, valid, expected, progress=progress)
    config = settings.config
    sampler = _sampler(config, train, valid, MismatchError)
    standing, remeasured = _comparable_standing(experiment, stored, first, config, valid)
    objections = [] if remeasured else list(_objections(stored, first.recall, spread, evidence))
    if objections and not accept_metric:
        raise MismatchError(
            objections[0],
            path=prefix,
            hint="check --data-dir; to believe what was measured now, run again with --accept-metric",
        )
    noisy = _noisy(stored, spread)
    if not remeasured:
        standing = _continued(stored, first.recall, believed=bool(objections) or noisy)
    if stopped and continue_after_stop:
        standing = replace(standing, trials=0)
    return Start(
        config=config,
        sampler=sampler,
        valid=valid,
        variables=variables,
        standing=replace(standing, stopped=standing.trials > config.patience),
        first=first,
        resumed_from=prefix,
        line=line,
        save_best=(standing.is_best and standing.best_metric != stored.recall)
        or (line == "best" and (stored.recall is None or bool(remeasured))),
        findings=(
            *fallback,
            *(_better_best(experiment, stored) if line == "latest" else ()),
            *evidence.findings,
            *_data_findings(sampler),
            *(Finding("changed", "note", text) for text in settings.changed),
            *(Finding("hyper-parameter", "note", text) for text in notes(settings)),
            *_spread_findings(spread, stored, evidence),
            *(Finding("remeasured", "warning", text, prefix) for text in remeasured),
            *(Finding("metric-accepted", "warning", text, prefix) for text in objections),
            *(Finding("early-stop", "note", text) for text in stopped),
        ),
        sources=settings.sources,
        spread=spread,
    )


def measure(
    config: TrainConfig,
    variables: Mapping[str, np.ndarray],
    valid: Interactions,
    progress: Progress | None = None,
) -> Metrics:
    """The metrics of these weights on the validation split."""
    return evaluate(numpy_model(config, variables), valid, maxlen=config.maxlen, top_n=config.top_n, progress=progress)


def _prefix(experiment: Experiment, line: Line) -> tuple[str, tuple[Finding, ...]]:
    """The checkpoint to go on from, verified, and what to say when it is not the one that should be there."""
    if line == "best":
        return newest_whole(experiment.best_directory)
    if experiment.has_latest:
        return newest_whole(experiment.latest_line)
    if _is_of_this_trainer(experiment):
        return newest_whole(experiment.best_directory)
    raise NotFoundError(
        "this experiment has no newest state: its trainer kept only the best",
        path=experiment.latest_line,
        hint=f"trainer train {shlex.quote(experiment.path)} --resume",
    )


def _better_best(experiment: Experiment, stored: Stored) -> Iterator[Finding]:
    """A best that was saved after this state: the run was killed between the two, or an older state is taken."""
    held = held_best(experiment)
    known = stored.standing.best_metric
    if held is not None and held.identity == stored.identity and held.standing.best_metric > known:
        best = held.standing
        text = (
            f"the best model, {best.best_metric:.6f} of step {best.best_step}, was saved after this state; its best is "
            f"{known:.6f}: it stays until a better one is found"
        )
        yield Finding("better-best", "note", text, experiment.best_line)


def _is_of_this_trainer(experiment: Experiment) -> bool:
    try:
        with open_checkpoint(experiment.best_prefix()) as checkpoint:
            lineage = identify(checkpoint)
    except CkptError:
        return False
    return lineage is not None and lineage.id == TRAINER


def _early_stop(experiment: Experiment, stored: Stored, config: TrainConfig, continue_after_stop: bool) -> list[str]:
    """What to say of a run that had run out of patience. Raises UsageError unless it is to continue all the same."""
    standing = stored.standing if stored.line == "latest" else newest_standing(experiment)
    if standing is None or not standing.stopped or standing.trials <= config.patience:
        return []
    text = (
        f"this run stopped early at step {standing.step}: {standing.trials} evaluations in a row did not beat the "
        f"{standing.best_metric:.6f} of step {standing.best_step}"
    )
    if not continue_after_stop:
        raise UsageError(
            text,
            path=experiment.path,
            hint=f"to train on all the same: --continue-after-stop, or a --patience larger than {config.patience}",
        )
    return [text]


def _comparable_standing(
    experiment: Experiment, stored: Stored, first: Metrics, config: TrainConfig, valid: Interactions
) -> tuple[Standing, list[str]]:
    """The stored standing; where its best cannot be compared, with the best measured again, and what to say then."""
    standing = stored.standing
    identity = metric_identity(config, valid)
    if stored.comparable(identity):
        return standing, []
    text = f"the stored best {standing.best_metric:.6f} is {_in_words(stored.identity)}, not {_in_words(identity)}"
    if stored.line == "best":
        standing = standing.as_best(first.recall)
        return standing, [f"{text}: measured again, it is {standing.best_metric:.6f}"]
    # These weights are not the best: another N or split says nothing about which are, so the best stays what it was.
    recall = standing.recall if math.isnan(standing.recall) else float(np.float32(first.recall))
    best = recall if standing.is_best else _recall_of_best(experiment, config, valid)
    if best is None:
        return standing.as_best(first.recall), [f"{text}, and cannot be measured again: these weights are the best now"]
    standing = replace(standing, recall=recall, best_metric=best)
    return standing, [f"{text}: measured again, it is {best:.6f}"]


def _recall_of_best(experiment: Experiment, config: TrainConfig, valid: Interactions) -> float | None:
    """float32 recall of the best checkpoint's weights on this split; None when they cannot be read."""
    try:
        with open_checkpoint(experiment.best_prefix()) as checkpoint:
            lineage = identify(checkpoint)
            if lineage is None:
                return None
            weights = {name: lineage.read(checkpoint, name) for name in weight_names(config)}
    except CkptError:
        return None
    return float(np.float32(measure(config, weights, valid).recall))


def _in_words(identity: Mapping[str, Any]) -> str:
    digest = str(identity.get("digest"))[:8]
    return f"{identity.get('name')}@{identity.get('top_n')} of a {identity.get('split')} split {digest}"


def _objections(stored: Stored, recall: float, spread: Spread | None, evidence: Evidence) -> Iterator[str]:
    """Why the measured recall cannot be that of the run so far, one sentence each."""
    noise = None if stored.measured_here else spread
    if stored.recall is not None:
        if not agrees(float(np.float32(recall)), [stored.recall], noise):
            yield f"the stored recall is {stored.recall:.6f}, but these weights on this data give {recall:.6f}"
        return
    logged = [evaluation.recall for evaluation in evidence.evaluations]
    if stored.line == "best" and logged and not agrees(recall, logged, noise):
        yield (
            f"these weights give recall {recall:.6f}, which the run never logged (its best is {max(logged):.6f}): "
            "this is probably not the data that it was trained on"
        )


def _noisy(stored: Stored, spread: Spread | None) -> bool:
    """Whether the stored recall was drawn with noise that cannot be drawn again."""
    return spread is not None and not stored.measured_here


def _spread_findings(spread: Spread | None, stored: Stored, evidence: Evidence) -> Iterator[Finding]:
    if spread is None or not _noisy(stored, spread):
        return
    logged = f"; logged was {evidence.best.recall:.6f}" if evidence.best else ""
    text = f"MIND draws routing noise at each evaluation, so no single recall repeats: here it is {spread}{logged}"
    yield Finding("routing-noise", "note", text)


def _continued(stored: Stored, recall: float, *, believed: bool) -> Standing:
    if stored.line == "best" and (believed or stored.recall is None):
        return stored.standing.as_best(recall)
    if believed and stored.recall is not None:
        return replace(stored.standing, recall=float(np.float32(recall)))
    return stored.standing


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
