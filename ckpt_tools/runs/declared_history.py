"""What a run logged, read as its declaration says: which files, which metric, in which lines, times which factor."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace

from ckpt_tools.errors import CkptError, MismatchError, NotFoundError, UsageError
from ckpt_tools.lineages.declared.grammar import MetricRule
from ckpt_tools.runs.bounded_match import find_all
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.metric_history import (
    Attributed,
    Chosen,
    Logged,
    MetricHistory,
    choose,
    read_history,
    since_last_start,
    text_lines,
    value_of,
)
from ckpt_tools.runs.metric_lines import Mode, data_of, is_like, mode_of, plain, read_line

# A pattern that is not done with a log by then is not one for logs.
_SECONDS = 10.0


def history_of(prefix: str, run: DeclaredRun | None) -> MetricHistory:
    """As `read_history`: of the declared logs where there are any, with the declared pattern where there is one.

    Raises UnsafeError where the declaration leads out of its directory.
    """
    if run is None:
        return read_history(prefix)
    rule = run.declaration.metric
    # A preset does not know where its user let the output go.
    files = run.logs() if run.declaration.path is not None else []
    line = None if rule.line is None else (lambda path: _matched(path, rule))
    return read_history(prefix, files or None, line)


def choose_declared(
    history: MetricHistory, run: DeclaredRun | None, metric: str | None = None, mode: Mode | None = None
) -> Chosen:
    """As `choose`; what is not asked for is what is declared. Raises what `choose` raises."""
    if run is None:
        return choose(history, metric, mode)
    rule, own = run.declaration.metric, run.declaration.path is not None
    if metric is not None or (rule.name is None and rule.line is None):
        return _scaled(choose(history, metric, mode or rule.mode), rule, metric)
    name = rule.name or "value"
    try:
        chosen = choose(history, name, mode or rule.mode or mode_of(name))
    except UsageError:
        if own:
            raise
        return choose(history, metric, mode)  # a run of the family whose user changed what is logged
    reason = f"declared in {os.path.basename(run.declaration.path or '')}" if own else f"as {run.declaration.id} does"
    return replace(_scaled(chosen, rule, None), reason=reason)


def value_declared(chosen: Chosen, run: DeclaredRun | None, prefix: str, step: int | None) -> Attributed:
    """As `value_of`; a checkpoint that lies where the best is declared to be, under one name, holds the best.

    A trainer that keeps its best in memory begins anew at each start: then it is the best since the last one.

    Raises what `value_of` raises.
    """
    rule = run.declaration.resume if run is not None else None
    keeps_best = run is not None and rule is not None and rule.overwrites and run.is_only_best(prefix)
    own = run.declaration.metric.name if run is not None else None
    if keeps_best and own is not None:
        keeps_best = is_like(own, None, chosen.name, None) and _is_of_its_data(own, chosen)
        if not keeps_best:  # what is kept there is the best of another metric
            by_another = Logged(own, math.nan, None, None, prefix, 0)
            chosen = replace(chosen, others=(*chosen.others, by_another))
    since = since_last_start(chosen) if keeps_best and rule is not None and rule.best == "memory" else chosen
    try:
        return value_of(since, prefix, step)
    except NotFoundError:
        if not keeps_best:
            raise
        best = since.best
        if best is None:
            raise
        return Attributed(
            best, "the best is kept under this name" + (", since the last start" if since is not chosen else "")
        )


def logged_best(prefix: str, run: DeclaredRun | None) -> Chosen | None:
    """The metric that a run's best is chosen by, with all its evaluations; None where logs or names do not tell it."""
    try:
        return choose_declared(history_of(prefix, run), run)
    except CkptError:
        return None


def _is_of_its_data(declared: str, chosen: Chosen) -> bool:
    """Whether a chosen metric is of the data that the declared one is of; where neither says, it is."""
    logged = next((data_of(each.name) for each in chosen.evaluations), "")
    return data_of(declared) in (data_of(chosen.name), logged) or (not data_of(declared) and logged == "validation")


def _scaled(chosen: Chosen, rule: MetricRule, asked: str | None) -> Chosen:
    if rule.scale == 1.0 or (asked is not None and asked != rule.name):
        return chosen
    evaluations = tuple(
        replace(each, value=each.value * rule.scale, unit=each.unit * abs(rule.scale), percent=False)
        for each in chosen.evaluations
    )
    return replace(chosen, evaluations=evaluations)


def _matched(path: str, rule: MetricRule) -> Iterator[Logged]:
    """The evaluations that a declared pattern finds; one without a step has that of the lines before it."""
    assert rule.line is not None
    lines = [plain(line) for line in text_lines(path)]
    matches = find_all(rule.line, lines, what="[metric] line", seconds=_SECONDS)
    told = {match.line for match in matches}
    step: int | None = None
    epoch: int | None = None
    context: dict[int, tuple[int | None, int | None]] = {}
    if any(not {"step", "epoch"} & match.groups.keys() for match in matches):
        for number, text in enumerate(lines[: max(told, default=-1) + 1]):
            said = read_line(text)
            if said.epoch is not None and said.epoch != epoch:
                epoch, step = said.epoch, said.step
            step = said.step if said.step is not None else step
            if number in told:
                context[number] = (step, epoch)
    before: float | None = None
    for order, match in enumerate(matches):
        text = match.value.strip()
        try:
            value = float(text.rstrip("%").replace(",", "."))
        except ValueError as error:
            raise MismatchError(f"[metric] line found {text!r}, which is no number", path=path) from error
        if value == before and _is_best(lines[match.line], value):
            continue  # ``best so far: 0.7``, once more: it was not measured then
        before = value
        digits = len(text.lower().rstrip("%").partition("e")[0].partition(".")[2])
        near = context.get(match.line, (None, None))
        yield Logged(
            rule.name or "value",
            value,
            _whole(match.groups.get("step")) if "step" in match.groups else near[0],
            _whole(match.groups.get("epoch")) if "epoch" in match.groups else near[1],
            path,
            order,
            percent=text.endswith("%"),
            unit=0.0 if "e" in text.lower() else 0.5 * 10.0**-digits,
        )


def _is_best(line: str, value: float) -> bool:
    best = read_line(line).best
    return best is not None and best.reading.value == value


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    bare = text.strip().replace(",", "")
    return int(bare) if bare.isdecimal() and len(bare) < 19 else None
