"""Drafting a ``ckpt.toml`` from what lies in a run, and trusting one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ckpt_tools.errors import CkptError, UsageError
from ckpt_tools.format.filenames import DECLARATION, KERAS_ENDINGS
from ckpt_tools.fs import durable, paths
from ckpt_tools.lineages.declared.grammar import Declaration
from ckpt_tools.lineages.declared.lookup import read_declaration, recognised
from ckpt_tools.lineages.declared.trust import trust_file, trusted_files
from ckpt_tools.lineages.tensor_names import bare, tell_roles
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.readers.location import locate, prefixes_in
from ckpt_tools.runs.metric_history import MetricHistory, choose, read_history
from ckpt_tools.runs.opening import has_graph

_LEVELS = 3
_MOST_PLACES = 200
_BEST = re.compile(r"(?<![^\W_])best(?![^\W_])", re.IGNORECASE)
# Counting a save: its name without it is what all of them share.
_COUNT = re.compile(r"(?<=[-_.])\d+(?=$|\.)")


@dataclass(frozen=True)
class Draft:
    """A file that would describe a run, and the ``candidates`` for what it could not tell."""

    path: str
    text: str
    candidates: tuple[str, ...]
    written: bool = False


def draft(experiment: str, *, write: bool = True, force: bool = False) -> Draft:
    """A ``ckpt.toml`` for a run, from its checkpoints, its logs and its tensors.

    Raises UsageError when there is one already and ``force`` was not given, StorageError or UnsafeError where a log is
    there that was not read, and what `open_checkpoint` raises.
    """
    directory = experiment if paths.is_directory(experiment) else paths.parent(paths.absolute(experiment))
    path = os.path.join(directory, DECLARATION)
    if write and not force and paths.exists(path):
        raise UsageError(f"there is a {DECLARATION} already", path=path, hint="add --force to replace it")
    saves = list(_saves(directory))
    best = [save for save in saves if _BEST.search(os.path.relpath(save, directory))]
    prefix = (best or saves or [locate(experiment)])[-1]
    with open_checkpoint(prefix) as checkpoint:
        preset = recognised(checkpoint)
        lines, candidates = _lines(directory, checkpoint, saves, best, preset)
    text = "\n".join(lines) + "\n"
    if write:
        durable.write_atomic(path, text.encode())
    return Draft(path, text, candidates, write)


def _lines(
    directory: str, checkpoint: Checkpoint, saves: list[str], best: list[str], preset: Declaration | None
) -> tuple[list[str], tuple[str, ...]]:
    lines = [f"preset = {_quoted(preset.id)}"] if preset else []
    others = [save for save in saves if save not in best]
    layout = [
        f"{name} = {_list(_patterns(directory, found))}"
        for name, found in (("best", best), ("latest", others))
        if found
    ]
    history = read_history(checkpoint.prefix)
    if history.unread is not None:  # it may be the one with the metric
        raise history.unread
    logs = list(dict.fromkeys(os.path.relpath(source, directory) for source in history.sources))
    logs = [log for log in logs if not log.startswith(os.pardir)]
    layout += [f"logs = {_list(logs[:20])}"] if logs else []
    lines += ["[layout]", *layout] if layout else []
    metric, candidates = _metric(history)
    lines += ["[metric]", *metric]
    lines += ["[variables]", *_variables(checkpoint), *_graph(checkpoint)]
    return lines, candidates


def _metric(history: MetricHistory) -> tuple[list[str], tuple[str, ...]]:
    try:
        chosen = choose(history)
    except CkptError:
        names = tuple(history.names()[:8])
        told = ", ".join(map(_quoted, names)) or "nothing that reads as a metric was logged"
        return [f"# name = one of {told}", '# mode = "max"'], names
    return [f"name = {_quoted(chosen.name)}  # {chosen.reason}", f"mode = {_quoted(chosen.mode)}"], ()


def _variables(checkpoint: Checkpoint) -> Iterator[str]:
    roles = tell_roles(checkpoint.tensors, checkpoint.graph)
    named: dict[str, list[str]] = {}
    for key, role in roles.roles.items():
        named.setdefault(role.group, []).append(bare(key))
    counts = ", ".join(f"{len(names)} {group}" for group, names in named.items())
    yield f"# told by names and shapes: {counts}"
    if roles.steps:
        yield f"step = {_quoted(bare(roles.steps[0]))}"
    if roles.bests:
        yield f"best = {_quoted(bare(roles.bests[0]))}"


def _graph(checkpoint: Checkpoint) -> Iterator[str]:
    """The graph beside a checkpoint, as lines to be filled in: which value is the score it does not tell."""
    if not has_graph(checkpoint):
        return
    from ckpt_tools.graphs.needs import needs_of  # few runs have a graph
    from ckpt_tools.runs.run_graph import read_run_graph

    try:
        needs = needs_of(read_run_graph(checkpoint).graph)
    except CkptError as error:
        yield f"# the graph beside it cannot be read: {error.message!r:.200}"
        return
    offers = [each for each in needs.offers if not each.missing][:8]
    fed = {name for each in offers[:1] for name in each.needs}
    yield "# [graph]  # ckpt backfill RUN --evaluate graph: neither TensorFlow nor the trainer is needed"
    first, *others = [_quoted(each.name) for each in offers] or ["?"]
    yield f"# scores = {first}" + (f"  # or {', '.join(others)}" if others else "")
    yield '# targets = "targets.npy"'
    yield '# measure = "accuracy"'
    yield "# [graph.feeds]"
    for each in needs.fed:
        if each.name.rpartition(":")[0] in fed:
            value = "1.0" if each.shape in (None, ()) else _quoted("FILE.npy")
            shape = "of any shape" if each.shape is None else [size or 0 for size in each.shape]
            yield f"# {_quoted(each.name)} = {value}  # {each.dtype} {shape}"


def _saves(directory: str) -> Iterator[str]:
    """The checkpoints in a directory and some levels below, links not followed."""
    waiting = [(directory, 0)]
    for _ in range(_MOST_PLACES):
        if not waiting:
            return
        here, depth = waiting.pop(0)
        yield from (os.path.join(here, name) for name in prefixes_in(here))
        try:
            found = paths.scan(here)
        except CkptError:
            continue
        for name, status in found.items():
            path = os.path.join(here, name)
            if status.directory and depth < _LEVELS and not paths.is_link(path) and not name.startswith("."):
                waiting.append((path, depth + 1))
            elif name.endswith(KERAS_ENDINGS):
                yield path


def _patterns(directory: str, saves: Iterable[str]) -> list[str]:
    """One pattern for all saves that differ in their count only."""
    found: dict[str, set[str]] = {}
    for save in saves:
        way = os.path.relpath(save, directory).replace(os.sep, "/")
        found.setdefault(_COUNT.sub("*", way), set()).add(way)
    return [pattern if len(ways) > 1 else next(iter(ways)) for pattern, ways in found.items()][:20]


def _list(texts: list[str]) -> str:
    return _quoted(texts[0]) if len(texts) == 1 else f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=True)


def trust(directory: str) -> Declaration:
    """Let the commands of a directory's ``ckpt.toml`` run, as long as it stays as it is.

    Raises what `read_declaration` raises, StorageError where the user's configuration cannot be written.
    """
    file = directory if os.path.basename(directory) == DECLARATION else os.path.join(directory, DECLARATION)
    declaration = read_declaration(file)
    store = trust_file()
    known = {**trusted_files(), paths.real(file): declaration.digest}
    durable.make_directory(os.path.dirname(store))
    durable.write_atomic(store, json.dumps(known, indent=1, sort_keys=True).encode())
    return declaration
