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
 6. If a recall of these weights is stored, the measured one must equal it within 1e-6. At another N the best is
    measured again, which is reported. On another validation split it is so only with leave (9), and the best of the old
    split stays beside the new one; a later resume on the old split finds it again.
 7. If none is stored, the run's logs must contain the measured recall, within 1e-6; without logs it is taken as it
    is. It then becomes the best, and is saved before the first step.
 8. MIND of the paper draws noise at each evaluation. A recall that somebody else logged or stored agrees when it is
    within that noise over several seeds; this trainer's own measurements repeat exactly.
 9. ``--accept-metric`` overrides 6 and 7: what was measured now is believed, and becomes the best when the best was
    what disagreed. Training data with another digest than the stored one needs ``--accept-data``.
10. Adam's moments and step continue. A step that the checkpoint no longer tells (TensorFlow 1 after some 87,000
    updates) counts as 10^6 for Adam, and the best logged step for the run.
11. A run that had run out of patience continues with a larger ``--patience``, or with ``--continue-after-stop``, which
    starts the count again. From its best it continues with another seed: the same batches would end the same way.
12. A state continues only with its best in sight. When no checkpoint holds that any more, the best that is left is the
    best from there on, or these weights are; both are reported.
13. Nothing has been written until here. Whoever trains locks the experiment first and looks again (``unchanged``).
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.errors import (
    BusyError,
    CkptError,
    MismatchError,
    NotFoundError,
    UnsafeError,
    UsageError,
)
from ckpt_tools.findings import Finding
from ckpt_tools.fs import local
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.trainer import ID as TRAINER
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import Evidence, collect
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.holding import best_where, holder, snapshot
from trainer.checkpoints.retention import held_best
from trainer.checkpoints.run_state import RunState
from trainer.checkpoints.saved_state import Line, SavedState, newest_run_state, read_saved_state
from trainer.config import LARGEST_SEED, UNKNOWN_ITEM_COUNT, TrainConfig, validate
from trainer.data.interactions import (
    Interactions,
    default_data_dir,
    items_needed,
    read_split,
    require_ids_below,
    split_path,
)
from trainer.data.sampling import BatchSampler
from trainer.evaluation.measuring import METRIC, OnProgress, evaluate, first_true, numpy_model
from trainer.evaluation.ranking_metrics import Metrics
from trainer.evaluation.reproducing import Spread, agrees, reproduce
from trainer.models.variables import initial_variables, restored_variables
from trainer.naming import require_unused
from trainer.settings import Settings, notes, settings_of

VALID = "valid"


@dataclass(frozen=True)
class Best:
    """The best model of a run that no checkpoint holds as such yet: its variables, and where the run was."""

    variables: Mapping[str, np.ndarray]
    run_state: RunState


@dataclass(frozen=True)
class StartingPoint:
    """All that training needs to begin. ``variables`` by canonical name; ``first`` was measured on them.

    ``resumed_from`` is a prefix, None for a new run; ``line`` says which of the run's two lines it belongs to.
    ``unsaved_best`` is to be saved before the first step. ``seen``: the experiment's files when they were read.
    ``sources``: where each hyper-parameter came from. ``spread``: what MIND's routing noise does to the recall.
    """

    config: TrainConfig
    sampler: BatchSampler
    valid: Interactions
    data_dir: str
    variables: dict[str, np.ndarray]
    run_state: RunState
    first: Metrics
    resumed_from: str | None
    line: Line | None
    unsaved_best: Best | None
    seen: Mapping[str, Fingerprint] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    spread: Spread | None = None

    def require_unchanged(self, experiment: Experiment) -> None:
        """For whoever has locked the experiment. Raises UsageError when a new run is not alone with its name any more,
        BusyError when the checkpoints are not those that were read."""
        if self.resumed_from is None:
            require_unused(experiment)
        elif snapshot(experiment) != self.seen:
            raise BusyError(
                "another program has changed this experiment since it was read",
                path=experiment.path,
                hint="run the same command again",
            )


def metric_identity(config: TrainConfig, valid: Interactions) -> dict[str, Any]:
    """What makes two recalls comparable; stored as JSON in ``state/metric``."""
    return {"name": METRIC, "top_n": config.top_n, "split": VALID, "digest": valid.digest}


def new_run(
    config: TrainConfig, data_dir: str, *, untrained_best: bool = False, progress: OnProgress | None = None
) -> StartingPoint:
    """A run from fresh weights. They are measured too, but no best unless ``untrained_best``: what nothing was learnt
    from can score by popularity alone, and would then be kept over everything that training finds.

    Raises UsageError (hyper-parameters, ids beyond ``item_count``), NotFoundError and CorruptError (data).
    """
    train, valid = _read_data(data_dir, config)
    if config.item_count == UNKNOWN_ITEM_COUNT:
        config = replace(config, item_count=_items_needed(data_dir, config, train, valid))
    validate(config)
    _require_room(config, train, valid)
    sampler = _sampler(config, train, valid, UsageError)
    variables = initial_variables(config)
    first = measure(config, variables, valid, progress)
    run_state = RunState().as_best(first.recall) if untrained_best else RunState().as_measured(first.recall)
    return StartingPoint(
        config=config,
        sampler=sampler,
        valid=valid,
        data_dir=data_dir,
        variables=variables,
        run_state=run_state,
        first=first,
        resumed_from=None,
        line=None,
        unsaved_best=Best(variables, run_state) if untrained_best else None,
        findings=tuple(_data_findings(sampler, valid)),
    )


@dataclass(frozen=True)
class _Loaded:
    """One checkpoint, with everything that a continuation needs of it."""

    prefix: str
    settings: Settings
    variables: dict[str, np.ndarray]
    stored: SavedState


def resumed_run(
    experiment: Experiment,
    line: Line,
    given: Mapping[str, Any],
    *,
    data_dir: str | None = None,
    accept_metric: bool = False,
    accept_data: bool = False,
    continue_after_stop: bool = False,
    progress: OnProgress | None = None,
) -> StartingPoint:
    """A run out of one of the experiment's checkpoints, by the rules above.

    ``given`` are the flags that name hyper-parameters, None where left out; without ``data_dir`` the data is looked
    for where the original trainer has it. Raises NotFoundError (no checkpoint, no data), UnsupportedError (unknown
    producer), UsageError (contradicting flags, an early stop), MismatchError (a variable, the recall, the data),
    CorruptError (damage).
    """
    seen = snapshot(experiment)
    prefix, fallback = _prefix(experiment, line)
    evidence = collect(experiment)
    loaded = _load(prefix, line, given, evidence)
    stop = _early_stop(experiment, loaded, continue_after_stop)
    data_dir = data_dir or default_data_dir(experiment.root, loaded.settings.config.dataset)
    train, valid = _read_data(data_dir, loaded.settings.config)
    if other := _best_of_this_data(experiment, loaded.stored, valid):
        loaded = _load(other, line, given, evidence)
        fallback = (*fallback, Finding("other-best", "note", f"going on from {other}, the best on this data", other))
    prefix, stored = loaded.prefix, loaded.stored
    settings = loaded.settings
    if stop and line == "best" and given.get("seed") is None:
        settings = _with_other_batches(settings, stop)
    expected = [evaluation.recall for evaluation in evidence.evaluations] if stored.recall is None else [stored.recall]
    if stored.measured_here:  # then nothing is left to be found out
        expected = []
    settings, first, spread = reproduce(settings, loaded.variables, valid, expected, progress=progress)
    config = settings.config
    sampler = _sampler(config, train, valid, MismatchError)
    identity = metric_identity(config, valid)
    objections = list(_objections(stored, first.recall, spread, evidence, identity))
    strangers = list(_other_training_data(stored, sampler, train))
    _require_leave(prefix, objections, strangers, accept_metric=accept_metric, accept_data=accept_data)
    run_state, unsaved, said = _outcome(experiment, loaded, config, valid, first, bool(objections), spread)
    remeasured = any(finding.id == "remeasured" for finding in said)  # which says all of it
    if stop and stop.exhausted:
        run_state = replace(run_state, trials=0)
    return StartingPoint(
        config=config,
        sampler=sampler,
        valid=valid,
        data_dir=data_dir,
        variables=loaded.variables,
        run_state=replace(run_state, stopped=run_state.trials > config.patience),
        first=first,
        resumed_from=prefix,
        line=line,
        unsaved_best=unsaved,
        seen=seen,
        findings=(
            *fallback,
            *(_better_best(experiment, stored) if line == "latest" else ()),
            *evidence.findings,
            *_data_findings(sampler, valid),
            *(Finding("changed", "note", text) for text in settings.changed),
            *(Finding("hyper-parameter", "note", text) for text in notes(settings)),
            *_spread_findings(spread, stored, evidence),
            *said,
            *(Finding("metric-accepted", "warning", text, prefix) for text in objections if not remeasured),
            *(Finding("data-accepted", "warning", text, prefix) for text in strangers),
            *((Finding("early-stop", "note", stop.sentence),) if stop and stop.exhausted else ()),
        ),
        sources=settings.sources,
        spread=spread,
    )


def measure(
    config: TrainConfig,
    variables: Mapping[str, np.ndarray],
    valid: Interactions,
    progress: OnProgress | None = None,
) -> Metrics:
    """The metrics of these weights on the validation split."""
    return evaluate(numpy_model(config, variables), valid, maxlen=config.maxlen, top_n=config.top_n, progress=progress)


def _prefix(experiment: Experiment, line: Line) -> tuple[str, tuple[Finding, ...]]:
    """The checkpoint to go on from, verified, and what to say when it is not the one that should be there."""
    if line == "best":
        try:
            return newest_whole(experiment.best_directory)
        except CkptError as error:
            if _has_whole_latest(experiment):
                error.hint = f"go on from the newest state: {_resume(experiment)} --from latest"
            raise
    if experiment.has_latest:
        return newest_whole(experiment.latest_line)
    if _is_of_this_trainer(experiment):
        return newest_whole(experiment.best_directory)
    raise NotFoundError(
        "this experiment has no newest state: its trainer kept only the best",
        path=experiment.latest_line,
        hint=_resume(experiment),
    )


def _resume(experiment: Experiment) -> str:
    return f"trainer train {shlex.quote(experiment.path)} --resume"


def _has_whole_latest(experiment: Experiment) -> bool:
    try:
        newest_whole(experiment.latest_line)
    except CkptError:
        return False
    return True


def _better_best(experiment: Experiment, stored: SavedState) -> Iterator[Finding]:
    """A best that was saved after this state: the run was killed between the two, or an older state is taken."""
    held = held_best(experiment)
    known = stored.run_state.best_metric
    if held is not None and held.identity == stored.identity and held.run_state.best_metric > known:
        best = held.run_state
        text = (
            f"the best model, {best.best_metric:.6f} of step {best.best_step}, was saved after this state; its best is "
            f"{known:.6f}: it stays until a better one is found"
        )
        yield Finding("better-best", "note", text, experiment.best_line)


def _is_of_this_trainer(experiment: Experiment) -> bool:
    try:
        with open_identified(experiment.best_prefix(), ComiRecLineage, producer=TRAINER):
            return True
    except CkptError:
        return False


@dataclass(frozen=True)
class _Stop:
    """A run that had stopped early, with the largest ``seed`` it has had. ``exhausted``: so it would again at once."""

    sentence: str
    seed: int
    exhausted: bool


def _early_stop(experiment: Experiment, loaded: _Loaded, continue_after_stop: bool) -> _Stop | None:
    """How the run had run out of patience, if it had. Raises UsageError unless it is to continue all the same."""
    config = loaded.settings.config
    if loaded.stored.line == "latest":
        run_state, seed = loaded.stored.run_state, config.seed
    else:
        run_state, seed = newest_run_state(experiment) or (RunState(), 0)
    if not run_state.stopped:
        return None
    text = (
        f"this run stopped early at step {run_state.step}: {run_state.trials} evaluations in a row did not beat the "
        f"{run_state.best_metric:.6f} of step {run_state.best_step}"
    )
    exhausted = run_state.trials > config.patience
    if exhausted and not continue_after_stop:
        raise UsageError(
            text,
            path=experiment.path,
            hint=f"to train on all the same: --continue-after-stop, or a --patience larger than {config.patience}",
        )
    return _Stop(text, max(seed, config.seed), exhausted)


def _with_other_batches(settings: Settings, stop: _Stop) -> Settings:
    """Another seed. Batches are a function of seed and step: from the best on, the same would end the same way."""
    seed = (stop.seed + 1) % LARGEST_SEED
    said = (
        f"--seed {settings.config.seed} becomes {seed}: the batches that this run stopped early with would do it again"
    )
    found = settings.with_found("seed", seed, "another one after an early stop")
    return replace(found, changed=(*settings.changed, said))


def _best_of_this_data(experiment: Experiment, stored: SavedState, valid: Interactions) -> str | None:
    """Another checkpoint in the line of best ones, when the newest was measured on another split than this one."""
    digest = stored.identity.get("digest")
    if stored.line == "latest" or digest in (None, valid.digest):
        return None
    found = best_where(experiment, lambda identity: identity.get("digest") == valid.digest)
    return None if found is None else found[0]


def _require_leave(
    prefix: str, objections: Sequence[str], strangers: Sequence[str], *, accept_metric: bool, accept_data: bool
) -> None:
    """Raise MismatchError for what was not accepted: another recall or split, and other training data."""
    refused = [] if accept_metric else list(objections)
    flags = ["--accept-metric"] if refused else []
    if strangers and not accept_data:
        refused += strangers
        flags.append("--accept-data")
    if refused:
        means = "believe what was measured now" if flags == ["--accept-metric"] else "train on with this data"
        raise MismatchError(
            "; ".join(refused),
            path=prefix,
            hint=f"check --data-dir; to {means}, run again with {' '.join(flags)}",
        )


_Decided = tuple[RunState, "Best | None", tuple[Finding, ...]]


def _outcome(
    experiment: Experiment,
    loaded: _Loaded,
    config: TrainConfig,
    valid: Interactions,
    first: Metrics,
    objected: bool,
    spread: Spread | None,
) -> _Decided:
    """Where the run stands, the best to be saved at once if there is one, and what to say of it."""
    stored = loaded.stored
    identity = metric_identity(config, valid)
    if not stored.comparable(identity):
        return _measured_again(experiment, loaded, config, valid, first, identity)
    run_state = _continued(stored, first.recall, believed=objected or _noisy(stored, spread))
    if stored.line == "best":
        changed = stored.recall is None or run_state.best_metric != stored.recall
        # The state file names the newest of the line: the best of this data has to become that again.
        changed |= experiment.best_directory == experiment.best_line and loaded.prefix != _newest(experiment)
        return run_state, Best(loaded.variables, run_state) if changed else None, ()
    return _with_its_best(experiment, loaded, config, run_state, first)


def _newest(experiment: Experiment) -> str | None:
    try:
        return experiment.best_prefix()
    except CkptError:
        return None


def _measured_again(
    experiment: Experiment,
    loaded: _Loaded,
    config: TrainConfig,
    valid: Interactions,
    first: Metrics,
    identity: Mapping[str, Any],
) -> _Decided:
    """Where a run stands whose best cannot be compared any more: at another N, or on another split with leave."""
    stored, run_state = loaded.stored, loaded.stored.run_state
    text = f"the stored best {run_state.best_metric:.6f} is {_in_words(stored.identity)}, not {_in_words(identity)}"

    def said(rest: str, prefix: str) -> tuple[Finding, ...]:
        aside = "" if stored.identity.get("digest") == identity["digest"] else f"; the old one stays in {prefix}"
        return (Finding("remeasured", "warning", f"{text}{rest}{aside}", loaded.prefix),)

    if stored.line == "best":
        run_state = run_state.as_best(first.recall)
        best = Best(loaded.variables, run_state)
        return run_state, best, said(f": measured again, it is {run_state.best_metric:.6f}", loaded.prefix)
    if not run_state.has_best:
        return run_state if math.isnan(run_state.recall) else run_state.as_measured(first.recall), None, ()
    # These weights are not the best: another N or split says nothing about which are, so the best stays what it was.
    held = loaded.prefix if run_state.is_best else holder(experiment, stored)
    if held is None:
        run_state = run_state.as_best(first.recall)
        words = ", and is in no checkpoint to be measured again: these weights are the best now"
        return run_state, Best(loaded.variables, run_state), said(words, experiment.best_directory)
    variables, of_best = _restored(held, config)
    recall = first.recall if held == loaded.prefix else measure(config, variables, valid).recall
    best = Best(variables, of_best.as_best(recall))
    now = run_state if math.isnan(run_state.recall) else run_state.as_measured(first.recall)
    now = replace(now, best_metric=best.run_state.best_metric)
    return now, best, said(f": measured again, it is {best.run_state.best_metric:.6f}", held)


def _with_its_best(
    experiment: Experiment, loaded: _Loaded, config: TrainConfig, run_state: RunState, first: Metrics
) -> _Decided:
    """A newest state, once its best has been found: where it belongs, elsewhere, or not at all."""
    stored = loaded.stored
    if not stored.run_state.has_best:
        return run_state, None, ()
    held = holder(experiment, stored)
    if held is not None and os.path.dirname(held) != experiment.latest_line:
        return run_state, None, ()
    lost = (
        f"the best model, {run_state.best_metric:.6f} of step {run_state.best_step}, is not in {experiment.best_line}"
    )
    if held is not None:
        variables, of_best = _restored(held, config)
        text = f"{lost}: it is put back from {held}"
        return run_state, Best(variables, of_best), (Finding("best-restored", "warning", text, held),)
    left = best_where(experiment, lambda identity: dict(identity) == dict(stored.identity))
    if left is not None and left[1].run_state.best_metric >= first.recall:
        prefix, other = left[0], left[1].run_state
        text = f"{lost} any more, nor elsewhere: the best is now {other.best_metric:.6f} of step {other.best_step}"
        run_state = replace(run_state, best_metric=other.best_metric, best_step=other.best_step)
        return run_state, None, (Finding("best-lost", "warning", text, prefix),)
    text = f"{lost} any more, nor elsewhere: the weights of this state, {first.recall:.6f}, are the best now"
    run_state = run_state.as_best(first.recall)
    return run_state, Best(loaded.variables, run_state), (Finding("best-lost", "warning", text, loaded.prefix),)


def _restored(prefix: str, config: TrainConfig) -> tuple[dict[str, np.ndarray], RunState]:
    """The variables of a checkpoint for this run, and where it was then."""
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        variables = restored_variables(checkpoint, lineage, config)
        return variables, read_saved_state(checkpoint, lineage, "best", Evidence()).run_state


def _load(prefix: str, line: Line, given: Mapping[str, Any], evidence: Evidence) -> _Loaded:
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        settings = settings_of(checkpoint, lineage, given)
        validate(settings.config, resumed=True)
        variables = restored_variables(checkpoint, lineage, settings.config)
        return _Loaded(prefix, settings, variables, read_saved_state(checkpoint, lineage, line, evidence))


def _in_words(identity: Mapping[str, Any]) -> str:
    digest = str(identity.get("digest"))[:8]
    return f"{identity.get('name')}@{identity.get('top_n')} of a {identity.get('split')} split {digest}"


def _objections(
    stored: SavedState, recall: float, spread: Spread | None, evidence: Evidence, identity: Mapping[str, Any]
) -> Iterator[str]:
    """Why the measured recall cannot be that of the run so far, one sentence each."""
    noise = None if stored.measured_here else spread
    if not stored.comparable(identity):
        if any(stored.identity.get(key) != identity[key] for key in ("split", "digest")):
            yield (
                f"the stored best {stored.run_state.best_metric:.6f} is {_in_words(stored.identity)}, but this is "
                f"{_in_words(identity)}: other validation data"
            )
        return
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


def _other_training_data(stored: SavedState, sampler: BatchSampler, train: Interactions) -> Iterator[str]:
    if stored.train_digest is not None and stored.train_digest != sampler.digest:
        yield (
            f"the training data has changed: {train.path} has digest {sampler.digest[:8]}, and this run was trained on "
            f"{stored.train_digest[:8]}"
        )


def _noisy(stored: SavedState, spread: Spread | None) -> bool:
    """Whether the stored recall was drawn with noise that cannot be drawn again."""
    return spread is not None and not stored.measured_here


def _spread_findings(spread: Spread | None, stored: SavedState, evidence: Evidence) -> Iterator[Finding]:
    if spread is None or not _noisy(stored, spread):
        return
    logged = f"; logged was {evidence.best.recall:.6f}" if evidence.best else ""
    text = f"MIND draws routing noise at each evaluation, so no single recall repeats: here it is {spread}{logged}"
    yield Finding("routing-noise", "note", text)


def _continued(stored: SavedState, recall: float, *, believed: bool) -> RunState:
    if stored.line == "best" and (believed or stored.recall is None):
        return stored.run_state.as_best(recall)
    if believed and stored.recall is not None:
        return replace(stored.run_state, recall=float(np.float32(recall)))
    return stored.run_state


def _read_data(data_dir: str, config: TrainConfig) -> tuple[Interactions, Interactions]:
    return read_split(data_dir, config.dataset, "train"), read_split(data_dir, config.dataset, VALID)


def _items_needed(data_dir: str, config: TrainConfig, *splits: Interactions) -> int:
    """The largest id of the data and one more; the test split counts where it is there."""
    if local.is_file(split_path(data_dir, config.dataset, "test"), follow=True):
        splits = (*splits, read_split(data_dir, config.dataset, "test"))
    return items_needed(*splits)


def _require_room(config: TrainConfig, *splits: Interactions) -> None:
    """Raise UnsafeError for an item table that this machine has no memory for: ids that are no numbers from 1 on."""
    needed = 4 * 3 * config.item_count * config.embedding_dim
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        largest = max(splits, key=lambda split: int(split.items.max()))
        raise UnsafeError(
            f"an item table of {config.item_count} rows and its moments need {needed / 1e9:.0f} GB, and this machine "
            f"has {there / 1e9:.0f}; the largest item id is {int(largest.items.max())}",
            path=largest.path,
            hint="number the items from 1 by falling frequency, as trainer prepare does",
        )


def _sampler(config: TrainConfig, train: Interactions, valid: Interactions, error: type[CkptError]) -> BatchSampler:
    """The batches of the run; raises ``error`` for an id that the item table has no row for."""
    for split in (train, valid):
        require_ids_below(split, config.item_count, error=error)
    return BatchSampler(train, config)


def _data_findings(sampler: BatchSampler, valid: Interactions) -> Iterator[Finding]:
    if sampler.skipped:
        message = f"{sampler.skipped} training users have fewer than {sampler.shortest} items and are never drawn"
        yield Finding("short-users", "note", message)
    for split in (sampler.split, valid):
        if padding := int(np.count_nonzero(split.items == 0)):
            message = (
                f"item id 0 occurs {padding} times: it stands for padding, so models with several interests never "
                "recommend it; items are numbered from 1"
            )
            yield Finding("padding-id", "warning", message, split.path)
    if unknown := int((first_true(valid) == 0).sum()):
        message = (
            f"{unknown} of {len(valid.users)} validation users have a single item, which is to be predicted from "
            "nothing: every one of them gets the same list"
        )
        yield Finding("no-history", "warning", message, valid.path)
