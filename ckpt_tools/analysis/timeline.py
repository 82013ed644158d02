"""What a checkpoint went through, oldest first: how it was trained, and what was changed since, with the evidence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.fs import local
from ckpt_tools.runs import ledger
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.ledger import Entry, RemovalEntry, RewriteEntry, TidyEntry, UndoEntry


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``time`` is in ISO 8601, None when nothing tells it; ``facts`` are names and values."""

    what: str
    by: str | None = None
    time: str | None = None
    facts: tuple[tuple[str, str], ...] = ()


def events_of(prefix: str | None, curve: Curve, producer: str | None) -> tuple[list[Event], list[Finding]]:
    """What the logs and the ledger tell of a checkpoint; a ledger that cannot be read is a finding."""
    found = list(_trained(curve, producer))
    if prefix is None:
        return found, []
    try:
        entries = ledger.read_ledger(local.directory_of(prefix))
    except CkptError as error:
        return found, [Finding(error.id, "warning", f"the ledger cannot be read: {error.message}", error.path)]
    return [*found, *_changed(entries, os.path.basename(prefix))], []


def _trained(curve: Curve, producer: str | None) -> Iterator[Event]:
    if not curve.points:
        if producer:
            yield Event("trained", producer)
        return
    first, last, best = curve.points[0], curve.points[-1], curve.points[curve.best or 0]
    facts = [
        ("evaluations", str(len(curve.points))),
        ("steps", f"{first.step} to {last.step}"),
        ("best recall", f"{best.recall:.6f} at step {best.step}"),
        ("told by", ", ".join(dict.fromkeys(os.path.basename(point.source) for point in curve.points))),
    ]
    yield Event("trained", producer, None, tuple(facts))
    for number in curve.resumes:
        point = curve.points[number]
        yield Event("resumed", None, None, (("at step", str(point.step)), ("recall", f"{point.recall:.6f}")))


def _changed(entries: list[Entry], name: str) -> Iterator[Event]:
    of_it = {entry.id for entry in entries if isinstance(entry, RewriteEntry) and entry.checkpoint == name}
    undone = {entry.undoes for entry in entries if isinstance(entry, UndoEntry)}
    for entry in entries:
        facts: list[tuple[str, str]] = []
        if isinstance(entry, RewriteEntry):
            if entry.id not in of_it:
                continue
            facts += [
                (f"{change.get('action')}s", f"{_called(change.get('key'))} = {change['value']}")
                for change in entry.changes
                if change.get("value") is not None
            ]
            facts += evidence_words(entry.evidence)
        elif isinstance(entry, UndoEntry):
            if entry.undoes not in of_it:
                continue
            facts.append(("takes back", entry.undoes))
        elif isinstance(entry, TidyEntry):
            facts.append(("moved aside", ", ".join(entry.aside) or "nothing"))
        elif isinstance(entry, RemovalEntry) and name not in {removed.checkpoint for removed in entry.removed}:
            continue
        facts.append(("id", entry.id))
        what = f"{entry.action}, taken back later" if entry.id in undone else entry.action
        yield Event(what, entry.tool, entry.time, tuple(facts))


def _called(key: Any) -> str:
    return "object graph" if key == OBJECT_GRAPH_KEY else str(key).removesuffix(VALUE_SUFFIX)


def evidence_words(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a change was decided from, in words; what has another form than ours is shown as it is."""
    for name, words in (("measured", _measured), ("logged_best", _logged)):
        found = evidence.get(name)
        if found:
            try:
                yield name.removesuffix("_best"), words(found)
            except (KeyError, TypeError, ValueError):
                yield name.removesuffix("_best"), str(found)
    if evidence.get("agreement"):
        yield "agreement", str(evidence["agreement"])
    if evidence.get("from"):
        yield "from", f"{evidence['from']} to {evidence.get('to')}"


def _measured(measured: Mapping[str, Any]) -> str:
    what = f"{measured['name']}@{measured['top_n']} of {measured['users']} {measured['split']} users"
    return f"{measured['value']:.6f}, {what} (split {measured['digest'][:12]})"


def _logged(logged: Mapping[str, Any]) -> str:
    return f"{logged['recall']:.6f} at step {logged['step']} in {logged['source']}"
