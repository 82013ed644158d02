"""The checkpoints below a directory, each with what tells whether it may go: its step, its values, its files, its ties.

Looked at are tensor bundles and single Keras files. Those of one name but for their number, in one directory, are one
line: what is older or worse is so only within its line. Nothing is decided here, see `ckpt_tools.analysis.retention`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, StorageError, UnsafeError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.format.filenames import KERAS_ENDINGS, PENDING, STATE_DIRECTORY, BundlePart, bundle_part, index_name
from ckpt_tools.fs import local, paths
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.tensor_names import bare, tell_roles
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.readers import Bundle, open_checkpoint
from ckpt_tools.readers.state_files import inside, other_states, read_state
from ckpt_tools.runs import ledger
from ckpt_tools.runs.discovery import Discovery
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.ledger import RewriteEntry
from ckpt_tools.runs.logs import collect
from ckpt_tools.runs.metric_history import Chosen, MetricHistory, choose, from_name, read_history, value_of
from ckpt_tools.runs.metric_lines import Mode, mode_of

Source = Literal["log", "name", "stored"]

# A number at the end of a name counts steps, epochs or saves, unless the word before it counts something else.
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<word>[A-Za-z]*)[-_.=]?(?P<number>\d{1,18})", re.DOTALL)
_OTHER_THINGS = {"fold", "seed", "run", "trial", "rank", "part", "split", "cv", "exp", "version", "v", "rev"}
# name=0.42, name-0.42, name_0.42 at the end of a name: a value, not a number of anything.
_VALUED = re.compile(r"(?:[-_.](?:[A-Za-z_]+[-_=])?\d{1,4}\.\d{1,12})+")
# What any HDF5 file is called: data is kept in such files, too.
_ANY_HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class Value:
    """What a metric was at a checkpoint, as a source has it. ``mode`` None: which direction is better is not known."""

    source: Source
    metric: str
    value: float
    mode: Mode | None


@dataclass(frozen=True)
class ShelfFile:
    """A file of a checkpoint; ``names`` is how many names it has, here or elsewhere."""

    path: str
    fingerprint: Fingerprint
    names: int


@dataclass(frozen=True)
class Holding:
    """One checkpoint. ``number`` is the one in its name; ``step`` is stored in it, None when it cannot be read;
    ``written`` in seconds since 1970. ``bound`` says, in words, what else needs it: then it stays. ``guessed``: that
    it is a checkpoint at all is known from its name alone.
    """

    path: str
    line: str
    number: int | None = None
    step: int | None = None
    written: float = 0.0
    values: tuple[Value, ...] = ()
    files: tuple[ShelfFile, ...] = ()
    bound: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def nbytes(self) -> int:
        return sum(file.fingerprint.size for file in self.files)

    @property
    def order(self) -> tuple[int, float, str]:
        """A key that sorts the checkpoints of a line, oldest first: by number, never by time where there is one."""
        return (-1 if self.number is None else self.number, self.written, self.path)


@dataclass(frozen=True)
class Shelf:
    """All checkpoints below ``root``, and what could not be looked at."""

    root: str
    holdings: tuple[Holding, ...]
    findings: tuple[Finding, ...] = ()


def line_of(path: str) -> tuple[str, int | None]:
    """The line that a checkpoint belongs to, and its number in it: the name without its number, and that number."""
    directory, name = os.path.split(path)
    ending = next((ending for ending in (".weights.h5", *KERAS_ENDINGS, ".ckpt") if name.endswith(ending)), "")
    stem = name.removesuffix(ending)
    if ending:
        stem = stem[: match.start()] if (match := _trailing(stem)) else stem
    found = _NUMBERED.fullmatch(stem)
    if found is None or found["word"].lower() in _OTHER_THINGS:
        return path, None
    return os.path.join(directory, f"{found['stem']}{found['word']}-#{ending}"), int(found["number"])


def _trailing(stem: str) -> re.Match[str] | None:
    """Values at the end of a name."""
    return next((match for match in _VALUED.finditer(stem) if match.end() == len(stem)), None)


def survey(root: str) -> Shelf:
    """Look at every checkpoint below a directory. Reads indexes, logs and small values; data is not read.

    Raises NotFoundError when the root is no directory, UnsupportedError behind a URL.
    """
    if paths.is_url(root):
        raise UnsupportedError(
            "which checkpoints may go is told of directories of this machine only: a store has no links and no locks",
            path=root,
            hint=f"ckpt audit {shlex.quote(root)}",
        )
    discovery = Discovery(root)
    found: dict[str, str] = {}
    linked: set[str] = set()
    others: list[Finding] = []
    for run in discovery.runs():
        for path in (*([run.prefix] if run.prefix else []), *run.latest):
            found.setdefault(path, run.kind)
            if run.linked:
                linked.add(path)
    look = _Look()
    holdings = [
        look.at(path, linked=path in linked)
        for path, kind in sorted(found.items())
        if kind != "saved-model" and _is_removable(path)
    ]
    others += [Finding(e.id, "warning", e.message, e.path, fix=e.hint) for e in discovery.problems]
    return Shelf(root, tuple(holdings), tuple(others))


def _is_removable(path: str) -> bool:
    """Whether it is one of the kinds that can go: a bundle with an index and a name, or one Keras file."""
    return paths.is_file(index_name(path)) and bool(os.path.basename(path)) if not _is_keras(path) else True


def _is_keras(path: str) -> bool:
    return path.endswith(KERAS_ENDINGS) and paths.is_file(path)


class _Look:
    """Looks at one checkpoint after the other; what belongs to a whole directory is looked at once."""

    def __init__(self) -> None:
        self._parts = cache(_parts)
        self._ties = cache(_ties)
        self._history = cache(read_history)
        self._chosen = cache(lambda directory: _chosen(self._history(directory)))
        self._evidence = cache(lambda path: collect(Experiment(path)))

    def at(self, path: str, *, linked: bool) -> Holding:
        directory, name = local.directory_of(path), os.path.basename(path)
        line, number = line_of(path)
        bound = list(self._ties(directory).get(name, ()))
        bound += self._ties(directory).get("", ())
        step, stored, opened = _stored(path)
        files = self._files(path)
        if linked or any(file.names == 0 for file in files):
            bound.append("a link leads to it, or its files are links")
        experiment = Experiment.containing(path)
        unread = self._unread(path, experiment)
        if unread is not None:
            bound.append(f"what was logged of it cannot be read: {unread.message}")
        logged = list(self._logged(path, experiment, step))
        named = None if logged else from_name(path, None, None)
        if named is not None and named.best is not None:
            logged.append(Value("name", named.name, named.best.value, named.mode))
        return Holding(
            path=path,
            line=line,
            number=number,
            step=step,
            written=max((file.fingerprint.mtime_ns / 1e9 for file in files), default=0.0),
            values=(*logged, *stored),
            files=files,
            bound=tuple(dict.fromkeys(bound)),
            guessed=not opened or (path.endswith(_ANY_HDF5) and not path.endswith(".weights.h5")),
        )

    def _unread(self, path: str, experiment: Experiment | None) -> CkptError | None:
        """What kept a log from being read that may tell this one to be the best; not its size, nor what is in it."""
        unread = self._evidence(experiment.path).unread if experiment is not None else None
        if experiment is None or not self._evidence(experiment.path).evaluations:
            unread = unread or self._history(local.directory_of(path)).unread
        return unread if isinstance(unread, StorageError) else None

    def _logged(self, path: str, experiment: Experiment | None, step: int | None) -> Iterator[Value]:
        if experiment is not None:
            found = None if step is None else self._evidence(experiment.path).at_step(step)
            if found is not None:
                yield Value("log", "recall", found.recall, "max")
            if self._evidence(experiment.path).evaluations:
                return
        chosen = self._chosen(local.directory_of(path))
        if chosen is not None:
            with contextlib.suppress(CkptError):
                row = value_of(chosen, path, step).evaluation
                yield Value("log", chosen.name, row.value, chosen.mode)

    def _files(self, path: str) -> tuple[ShelfFile, ...]:
        if _is_keras(path):
            return (_file(path),)
        directory, name = os.path.split(path)
        count = None
        try:
            with Bundle(path) as bundle:
                count = bundle.header.num_shards
        except StorageError:
            raise  # else the data of another save would be counted in
        except CkptError:
            pass
        parts = self._parts(directory or os.curdir).get(name, {})
        kept = [each for each, part in parts.items() if count is None or part.count in (None, count)]
        return tuple(_file(os.path.join(directory, each)) for each in sorted(kept))


def _parts(directory: str) -> dict[str, dict[str, BundlePart]]:
    """The files of each bundle of a directory, by the bundle's name and theirs."""
    found: dict[str, dict[str, BundlePart]] = {}
    for name in paths.scan(directory):
        if (part := bundle_part(name)) is not None:
            found.setdefault(part.prefix, {})[name] = part
    return found


def _file(path: str) -> ShelfFile:
    status = local.look(path)
    if status is None:
        return ShelfFile(path, Fingerprint(0, 0, 0, 0), 0)
    return ShelfFile(path, Fingerprint.of(status), 0 if local.is_link(path) else status.st_nlink)


def _stored(path: str) -> tuple[int | None, list[Value], bool]:
    """The step and the bests in a checkpoint, and whether it could be opened."""
    try:
        with open_checkpoint(path) as checkpoint:
            lineage = identify(checkpoint)
            roles = tell_roles(checkpoint.tensors, checkpoint.graph)
            step = lineage.step if lineage else step_of(checkpoint, roles)
            best = lineage.best_metric if lineage else best_of(checkpoint, roles)
            if best.status != "present" or best.value is None:
                return step, [], True
            name = bare(best.key or "best")
            mode: Mode | None = "max" if lineage else mode_of(name)
            return step, [Value("stored", name, best.value, mode)], True
    except CkptError:
        return None, [], False


def _chosen(history: MetricHistory) -> Chosen | None:
    """The metric that the logs beside a checkpoint choose the best by; None when they do not tell."""
    try:
        return choose(history)
    except CkptError:
        return None


def _ties(directory: str) -> dict[str, list[str]]:
    """Which checkpoints of a directory something else needs, and why; under ``""`` what is true of all."""
    ties: dict[str, list[str]] = {}

    def tie(name: str, why: str) -> None:
        ties.setdefault(name, []).append(why)

    try:
        for state, latest in _named_newest(directory):
            tie(latest, f"the newest, by the file {state}")
        entries = ledger.standing(ledger.read_ledger(directory))
        if local.is_there(os.path.join(directory, STATE_DIRECTORY, PENDING)):
            tie("", "a change of this directory was interrupted")
    except CkptError as error:
        tie("", f"what needs it cannot be read: {error.message}")
        return ties
    backups = {os.path.basename(path) for path in ledger.backups(directory)}
    for entry in entries:
        if not isinstance(entry, RewriteEntry):
            continue
        if entry.id in backups and entry.index_before is not None:
            tie(entry.checkpoint, "its originals are kept for an undo")
        elif entry.index_before is None and paths.is_file(os.path.join(directory, entry.index)):
            for link in entry.links:
                part = bundle_part(link.original or "")
                if part is not None and part.prefix != entry.checkpoint:
                    tie(part.prefix, f"{entry.checkpoint} was made from it, and can be undone")
    return ties


def _named_newest(directory: str) -> Iterable[tuple[str, str]]:
    """The state files of a directory, and the checkpoint that each names as the newest; a damaged one names none.

    Raises StorageError when the system does not say."""
    states = {}
    with contextlib.suppress(CorruptError, NotFoundError, UnsafeError):
        states["checkpoint"] = read_state(directory)
    states.update(other_states(directory))
    for name, state in states.items():
        with contextlib.suppress(UnsafeError):
            prefix = inside(directory, state.latest, name)
            if paths.lies_in(prefix, directory):
                yield name, os.path.basename(prefix)
