"""What the browser says about a run, as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from ckpt_tools.analysis.run_audit import Row
from ckpt_tools.format.graph import ObjectGraph


def shown(text: str) -> str:
    """Text from a file with its control characters made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def summary(row: Row) -> Text:
    """A row of the audit, one fact a line."""
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
        ("state", row.health),
        ("problem", row.problem),
        ("resume", row.sentence),
        ("size", f"{row.nbytes:,} bytes"),
        ("age", None if row.age_days is None else f"{row.age_days:.0f} days"),
        ("orphans", "\n".join(row.orphans) or None),
        ("pinned", row.pinned),
        ("next", row.fix),
    ]
    lines = [
        Text.assemble((f"{name:<12}", "dim"), "\n".join(map(shown, str(value).split("\n"))))
        for name, value in facts
        if value is not None
    ]
    return Text("\n").join(lines)


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
