"""What a declaration recognises of a run, and what not: the answer of ``ckpt lineage test``."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import CkptError, NotFoundError
from ckpt_tools.findings import Finding
from ckpt_tools.format.filenames import DECLARATION
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.declared.grammar import Declaration
from ckpt_tools.lineages.declared.roles import key_of, roles_of, untold
from ckpt_tools.lineages.declared.trust import is_trusted
from ckpt_tools.lineages.tensor_names import bare
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.declared_history import choose_declared, history_of, value_declared
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.opening import open_meant

_MOST_SHOWN = 50


@dataclass(frozen=True)
class DeclarationCheck:
    """``recognised`` are facts by what they are, ``unknown`` what is declared and not there, or there and not told."""

    path: str
    prefix: str | None
    declaration: Declaration | None
    run: DeclaredRun | None
    recognised: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    trusted: bool | None = None
    findings: tuple[Finding, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "lineage": self.run.to_json() if self.run else None,
            "recognised": [{"what": what, "is": value} for what, value in self.recognised],
            "unknown": list(self.unknown),
            "trusted": self.trusted,
            "findings": [finding.to_json() for finding in self.findings],
        }


def _check_declaration(path: str) -> DeclarationCheck:
    """What the ``ckpt.toml`` above a run, or the preset that tells it, says of it, held against what lies there.

    Raises what `lookup.declared_above` raises for a file that is not of the grammar, NotFoundError where nothing is
    declared.
    """
    with open_meant(path) as checkpoint:
        prefix = checkpoint.prefix
        run = DeclaredRun.of(checkpoint)
        if run is None:
            known = identify(checkpoint)
            if known is not None:
                return DeclarationCheck(path, prefix, None, None, (("lineage", f"{known.id}: {known.producer}"),))
            raise NotFoundError(
                f"no {DECLARATION} above it, and no preset recognises it",
                path=prefix,
                hint="ckpt lineage init EXPERIMENT",
            )
        return _checked(path, checkpoint, run)


# While somebody saves, what is declared may not be there for a moment.
check_declaration = steady(_check_declaration, doubtful=lambda found: bool(found.unknown))


def _checked(path: str, checkpoint: Checkpoint, run: DeclaredRun) -> DeclarationCheck:
    said = run.declaration
    facts: list[tuple[str, str]] = [("lineage", f"{said.id}: {said.title}"), ("run", run.directory)]
    facts += [(f"field {name}", value) for name, value in run.fields.items()]
    unknown: list[str] = []
    if said.experiment and not run.fields:
        unknown.append(f"[experiment] name: no directory above is called {said.experiment}")
    best, latest = run.best_prefix(), run.latest_prefix()
    for name, patterns, found in (("best", said.layout.best, best), ("latest", said.layout.latest, latest)):
        if found is not None:
            facts.append((name, os.path.relpath(found, run.directory)))
        elif patterns:
            unknown.append(f"[layout] {name}: nothing is there by {', '.join(patterns)}")
    _look_at_logs(checkpoint, run, facts, unknown)
    _look_at_tensors(checkpoint, run, facts, unknown)
    trusted = is_trusted(said) if said.evaluate else None
    if said.evaluate:
        facts.append(("command", f"{said.evaluate.command}{'' if trusted else ' (not trusted: it does not run)'}"))
    return DeclarationCheck(path, checkpoint.prefix, said, run, tuple(facts), tuple(unknown), trusted)


def _look_at_logs(checkpoint: Checkpoint, run: DeclaredRun, facts: list[tuple[str, str]], unknown: list[str]) -> None:
    said = run.declaration
    if said.layout.logs and not run.logs():
        unknown.append(f"[layout] logs: nothing is there by {', '.join(said.layout.logs)}")
    history = history_of(checkpoint.prefix, run)
    facts += [("log", os.path.relpath(source, run.directory)) for source in history.sources[:_MOST_SHOWN]]
    unknown += [f"{finding.path}: {finding.message}" for finding in history.findings]
    try:
        chosen = choose_declared(history, run)
    except CkptError as error:
        unknown.append(f"[metric]: {error.message}")
        return
    facts.append(("metric", f"{chosen.name}, {chosen.mode} ({chosen.reason})"))
    best = chosen.best
    if best is not None:
        where = f" at step {best.step}" if best.step is not None else f" in epoch {best.epoch}" if best.epoch else ""
        facts.append(("best logged", f"{best.value:g}{where}, of {len(chosen.evaluations)} values"))
    try:
        roles = roles_of(checkpoint.tensors, checkpoint.graph, said)
        held = value_declared(chosen, run, checkpoint.prefix, step_of(checkpoint, roles))
        facts.append(("this checkpoint", f"{held.evaluation.value:g}: {held.reason}"))
    except CkptError as error:
        unknown.append(error.message)


def _look_at_tensors(
    checkpoint: Checkpoint, run: DeclaredRun, facts: list[tuple[str, str]], unknown: list[str]
) -> None:
    said = run.declaration
    roles = roles_of(checkpoint.tensors, checkpoint.graph, said)
    counts: Counter[str] = Counter(role.group for role in roles.roles.values())
    facts.append(("tensors", ", ".join(f"{number} {group}" for group, number in counts.items())))
    step = step_of(checkpoint, roles)
    if step is not None:
        facts.append(("step", str(step)))
    own = said.path is not None
    for name in ("step", "best"):
        declared = getattr(said.variables, name)
        if own and declared and key_of(declared, checkpoint.tensors) is None:
            unknown.append(f"[variables] {name}: no tensor is called {declared}")
    best = best_of(checkpoint, roles, key_of(said.variables.best, checkpoint.tensors))
    if best.status != "absent" and best.key is not None:
        facts.append(
            ("best stored", f"{bare(best.key)} {best.value:g}{'' if best.status == 'present' else ' (unset)'}")
        )
    for group, patterns in (("model", said.variables.model), ("optimizer", said.variables.optimizer)):
        if own and patterns and not counts.get(group):
            unknown.append(f"[variables] {group}: no tensor fits {', '.join(patterns)}")
    left = untold(checkpoint.tensors, said.variables)
    unknown += [f"tensor {bare(key)}: of no declared group" for key in left[:_MOST_SHOWN]]
    if len(left) > _MOST_SHOWN:
        unknown.append(f"and {len(left) - _MOST_SHOWN} more tensors")
