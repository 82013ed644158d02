"""How a run begins: new, or out of a checkpoint. Nothing here writes, and nothing here needs TensorFlow.

A resume follows the rules of `trainer.resume_rules`; each is marked where it is decided. What comes of it is one
`trainer.training.resume_outcome:ResumeOutcome`.
"""

from __future__ import annotations

import os
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
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.trainer import ID as TRAINER
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import Evidence, collect
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.holding import best_where, snapshot
from trainer.checkpoints.retention import held_best
from trainer.checkpoints.run_state import RunState
from trainer.checkpoints.saved_state import Line, SavedState, newest_run_state, read_saved_state
from trainer.config import LARGEST_SEED, UNKNOWN_ITEM_COUNT, TrainConfig, validate
from trainer.data.interactions import (
    Interactions,
    default_data_dir,
    has_split,
    items_needed,
    read_split,
    require_ids_below,
)
from trainer.data.sampling import BatchSampler
from trainer.evaluation.measuring import OnProgress, first_true
from trainer.evaluation.ranking_metrics import Metrics
from trainer.evaluation.reproducing import Spread, agrees, reproduce
from trainer.models.variables import initial_variables, restored_variables
from trainer.naming import require_unused, resume_command
from trainer.originals import TOP_N
from trainer.resume_rules import Rule, decides
from trainer.settings import Settings, notes, settings_of
from trainer.training.resume_outcome import (
    VALID,
    Best,
    Continuation,
    Loaded,
    ResumeOutcome,
    decide,
    identity_in_words,
    is_noisy,
    measure,
    metric_identity,
)


@dataclass(frozen=True)
class StartingPoint:
    """All that training needs to begin. ``variables`` by canonical name; ``first`` was measured on them.

    ``resumed_from`` is a prefix, None for a new run; ``line`` says which of the run's two lines it belongs to.
    ``unsaved_best`` is to be saved before the first step. ``seen``: the experiment's files when they were read.
    ``sources``: where each hyper-parameter came from. ``spread``: what MIND's routing noise does to the recall.
    ``outcome``: what the resume found, None for a new run. ``measure_before``: what another trainer's log of the run
    measured, None where nothing tells.
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
    outcome: ResumeOutcome | None = None
    measure_before: str | None = None

    def data_elsewhere(self, experiment: Experiment) -> str | None:
        """Where the data lies, if that is where nobody looks who is not told."""
        usual = default_data_dir(experiment.root, self.config.dataset)
        return None if os.path.abspath(self.data_dir) == os.path.abspath(usual) else self.data_dir

    @decides(Rule.NOTHING_WRITTEN)
    def require_unchanged(self, experiment: Experiment) -> None:
        """For whoever has locked the experiment. Raises UsageError when a new run is not alone with its name any more,
        BusyError when the checkpoints are not those that were read."""
        if self.resumed_from is None:
            require_unused(experiment, self.data_elsewhere(experiment))
        elif snapshot(experiment) != self.seen:
            raise BusyError(
                "another program has changed this experiment since it was read",
                path=experiment.path,
                hint="run the same command again",
            )


def new_run(
    config: TrainConfig, data_dir: str, *, untrained_best: bool = False, progress: OnProgress | None = None
) -> StartingPoint:
    """A run from fresh weights. They are measured too, but no best unless ``untrained_best``: what nothing was learnt
    from can score by popularity alone, and would then be kept over everything that training finds.

    Raises UsageError (hyper-parameters, ids beyond ``item_count``), NotFoundError and CorruptError (data).
    """
    train, valid = _read_data(data_dir, config)
    splits = [train, valid]
    if config.item_count == UNKNOWN_ITEM_COUNT:
        if has_split(data_dir, config.dataset, "test"):
            splits.append(read_split(data_dir, config.dataset, "test"))
        config = replace(config, item_count=items_needed(*splits))
    validate(config)
    _require_room(config, splits)
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


@decides(Rule.MEASURED_FIRST)
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
    """A run out of one of the experiment's checkpoints, by the rules of `trainer.resume_rules`.

    ``given`` are the flags that name hyper-parameters, None where left out; without ``data_dir`` the data is looked
    for where the original trainer has it. Raises NotFoundError (no checkpoint, no data), UnsupportedError (unknown
    producer), UsageError (contradicting flags, an early stop), MismatchError (a variable, the recall, the data),
    CorruptError (damage).
    """
    seen = snapshot(experiment)
    prefix, fallback = _prefix(experiment, line, data_dir)
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
    reproduced = reproduce(settings, loaded.variables, valid, expected, progress=progress)
    settings, first, spread, logged_top_n, logged = reproduced
    config = settings.config
    sampler = _sampler(config, train, valid, MismatchError)
    identity = metric_identity(config, valid)
    # A recall that was logged at another N is one that these weights give.
    objections = [] if logged_top_n else list(_objections(stored, first.recall, spread, evidence, identity))
    strangers = list(_other_training_data(stored, sampler, train))
    _require_leave(prefix, objections, strangers, accept_metric=accept_metric, accept_data=accept_data)
    found = Continuation(experiment, loaded, config, valid, first, logged_top_n)
    decision = decide(found, objected=bool(objections), spread=spread)
    if decision.outcome is ResumeOutcome.MEASURED_AGAIN:  # which says all of it
        objections = []
    run_state = decision.run_state
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
        unsaved_best=decision.unsaved_best,
        seen=seen,
        findings=(
            *fallback,
            *(_better_best(experiment, stored) if line == "latest" else ()),
            *evidence.findings,
            *_data_findings(sampler, valid),
            *(Finding("changed", "note", text) for text in settings.changed),
            *(Finding("hyper-parameter", "note", text) for text in notes(settings)),
            *_spread_findings(spread, stored, evidence),
            *decision.findings,
            *(Finding("metric-accepted", "warning", text, prefix) for text in objections),
            *(Finding("data-accepted", "warning", text, prefix) for text in strangers),
            *((Finding("early-stop", "note", stop.sentence),) if stop and stop.exhausted else ()),
        ),
        sources=settings.sources,
        spread=spread,
        outcome=decision.outcome,
        measure_before=stored.measure_before or _measure_before(found, spread, evidence, logged),
    )


def _measure_before(found: Continuation, spread: Spread | None, evidence: Evidence, logged: float | None) -> str | None:
    """What the run's log measured: at the N at which these weights give a recall that is in it. A recall that is stored
    beside it tells nothing of the log. Where noise moves the recall nearly every N would do: it has to be the usual."""
    identity = found.logged_identity
    if identity is None or logged is None:
        return None
    in_log = found.logged_top_n == TOP_N if spread is not None else evidence.matching(logged) is not None
    return identity_in_words(identity) if in_log else None


@decides(Rule.LINE)
def _prefix(experiment: Experiment, line: Line, data_dir: str | None) -> tuple[str, tuple[Finding, ...]]:
    """The checkpoint to go on from, verified, and what to say when it is not the one that should be there."""
    if line == "best":
        try:
            return newest_whole(experiment.best_directory)
        except CkptError as error:
            if _has_whole_latest(experiment):
                error.hint = f"go on from the newest state: {resume_command(experiment.path, data_dir)} --from latest"
            raise
    if experiment.has_latest:
        return newest_whole(experiment.latest_line)
    if _is_of_this_trainer(experiment):
        return newest_whole(experiment.best_directory)
    raise NotFoundError(
        "this experiment has no newest state: its trainer kept only the best",
        path=experiment.latest_line,
        hint=resume_command(experiment.path, data_dir),
    )


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


@decides(Rule.EARLY_STOP)
def _early_stop(experiment: Experiment, loaded: Loaded, continue_after_stop: bool) -> _Stop | None:
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


@decides(Rule.EARLY_STOP)
def _with_other_batches(settings: Settings, stop: _Stop) -> Settings:
    """Another seed. Batches are a function of seed and step: from the best on, the same would end the same way."""
    seed = (stop.seed + 1) % LARGEST_SEED
    said = (
        f"--seed {settings.config.seed} becomes {seed}: the batches that this run stopped early with would do it again"
    )
    found = settings.with_found("seed", seed, "another one after an early stop")
    return replace(found, changed=(*settings.changed, said))


@decides(Rule.STORED_RECALL)
def _best_of_this_data(experiment: Experiment, stored: SavedState, valid: Interactions) -> str | None:
    """Another checkpoint in the line of best ones, when the newest was measured on another split than this one."""
    digest = stored.identity.get("digest")
    if stored.line == "latest" or digest in (None, valid.digest):
        return None
    found = best_where(experiment, lambda identity: identity.get("digest") == valid.digest)
    return None if found is None else found[0]


@decides(Rule.LEAVE)
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


def _load(prefix: str, line: Line, given: Mapping[str, Any], evidence: Evidence) -> Loaded:
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        settings = settings_of(checkpoint, lineage, given)
        validate(settings.config, resumed=True)
        variables = restored_variables(checkpoint, lineage, settings.config)
        return Loaded(prefix, settings, variables, read_saved_state(checkpoint, lineage, line, evidence))


@decides(Rule.STORED_RECALL, Rule.LOGGED_RECALL)
def _objections(
    stored: SavedState, recall: float, spread: Spread | None, evidence: Evidence, identity: Mapping[str, Any]
) -> Iterator[str]:
    """Why the measured recall cannot be that of the run so far, one sentence each."""
    noise = None if stored.measured_here else spread
    if not stored.comparable(identity):
        if any(stored.identity.get(key) != identity[key] for key in ("split", "digest")):
            yield (
                f"the stored best {stored.run_state.best_metric:.6f} is {identity_in_words(stored.identity)}, "
                f"but this is {identity_in_words(identity)}: other validation data"
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


def _spread_findings(spread: Spread | None, stored: SavedState, evidence: Evidence) -> Iterator[Finding]:
    if spread is None or not is_noisy(stored, spread):
        return
    logged = f"; logged was {evidence.best.recall:.6f}" if evidence.best else ""
    text = f"MIND draws routing noise at each evaluation, so no single recall repeats: here it is {spread}{logged}"
    yield Finding("routing-noise", "note", text)


def _read_data(data_dir: str, config: TrainConfig) -> tuple[Interactions, Interactions]:
    return read_split(data_dir, config.dataset, "train"), read_split(data_dir, config.dataset, VALID)


def _require_room(config: TrainConfig, splits: Sequence[Interactions]) -> None:
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
