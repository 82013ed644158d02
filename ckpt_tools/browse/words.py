"""What the browser says about a run, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.text import Text

from ckpt_tools.analysis.run_audit import Row
from ckpt_tools.analysis.verification import Verification
from ckpt_tools.format.graph import ObjectGraph


def shown(text: str) -> str:
    """Text from a file with its control characters made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def state_of(row: Row, checked: Verification | None) -> str:
    """What is known of its bytes: only what was read is whole."""
    if checked is not None:
        return "whole" if checked.whole else "damaged"
    return "not read" if row.health == "whole" else row.health


def what_next(row: Row) -> str:
    """The command to type about a run: what mends it, else a look at it."""
    return row.fix or f"ckpt inspect {shlex.quote(row.prefix or row.location)}"


def summary(row: Row, checked: Verification | None = None) -> Text:
    """A row of the audit, one fact a line, with what reading every byte found."""
    state = state_of(row, checked)
    cause = checked.diagnosis if checked else None
    facts = [
        ("run", row.path),
        ("kind", row.kind),
        ("format", row.format),
        ("lineage", row.lineage),
        ("model", row.model),
        ("step", row.step),
        ("best stored", None if row.best_stored is None else f"{row.best_stored:.6f}"),
        ("best logged", None if row.best_logged is None else f"{row.best_logged:.6f}"),
        ("best", row.best),
        ("state", _STATES.get(state, state) if checked is None else f"{state}: {checked.bytes_checked:,} bytes read"),
        ("problem", row.problem),
        ("damaged", "\n".join(checked.damaged[:_MOST]) or None if checked else None),
        ("cause", cause.sentence if cause else None),
        ("resume", row.sentence),
        ("size", f"{row.nbytes:,} bytes"),
        ("age", None if row.age_days is None else f"{row.age_days:.0f} days"),
        ("orphans", "\n".join(row.orphans) or None),
        ("pinned", row.pinned),
        ("next", (cause.fix if cause else None) or row.fix),
    ]
    lines = [
        Text.assemble((f"{name:<12}", "dim"), "\n".join(map(shown, str(value).split("\n"))))
        for name, value in facts
        if value is not None
    ]
    return Text("\n").join(lines)


_MOST = 20
_STATES = {"not read": "not read (v reads every byte); index and sizes are as they should be"}


def graph_lines(graph: ObjectGraph, most: int) -> Iterator[str]:
    """The object graph as an indented tree; an object that was shown already is only named again."""
    waiting: list[tuple[str, int, int]] = [("root", 0, 0)]
    seen: set[int] = set()
    for number in range(most + 1):
        if not waiting:
            return
        if number == most:
            yield f"… more than {most} lines"
            return
        name, node, depth = waiting.pop()
        key = graph.key_of(node)
        known = node in seen
        words = f"= {shown(key)}" if key else "(see above)" if known and graph.nodes[node].children else ""
        yield f"{'  ' * depth}{shown(name)} {words}".rstrip()
        if not known:
            seen.add(node)
            children = graph.nodes[node].children
            waiting += [(child, children[child], depth + 1) for child in sorted(children, reverse=True)]
