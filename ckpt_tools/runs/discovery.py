"""Which runs lie below a directory, and which files there belong to none.

A run is an experiment, a directory whose ``ckpt.toml`` says where its best and its newest lie, a checkpoint that is in
neither (or is not its experiment's best), a SavedModel or a file that Keras wrote. Whether it can be read is not asked
here: a name is enough to be found.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from ckpt_tools.errors import CkptError, NotFoundError, StorageError
from ckpt_tools.format.filenames import (
    DECLARATION,
    KERAS_ENDINGS,
    KERAS_MAPS,
    STATE_DIRECTORY,
    STATE_FILE,
    bundle_part,
    index_name,
    keras_map_of,
    meta_name,
    shard_of_v1,
    v1_set,
)
from ckpt_tools.format.state import State
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.fs.nearby import did_you_mean
from ckpt_tools.lineages.declared.lookup import declared_above
from ckpt_tools.readers.bundle import Bundle
from ckpt_tools.readers.location import named_by, prefixes_in
from ckpt_tools.readers.saved_model import is_saved_model
from ckpt_tools.readers.signatures import sniff
from ckpt_tools.readers.state_files import inside, other_states, read_state
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.experiments import BEST_ROOT, ORIGINAL_PREFIX, RUNS_ROOT, Experiment, is_experiment
from ckpt_tools.runs.leftovers import leftovers_in

Kind = Literal["experiment", "declared", "checkpoint", "saved-model", "keras"]
Files = Mapping[str, Fingerprint]

# The checkpoint without a name (``.index``) of the current directory.
_HERE = os.path.join(os.curdir, "")
_KERAS = (*KERAS_ENDINGS, *KERAS_MAPS)
_SAVE = re.compile(r"(?P<name>.*)-(?P<number>\d{1,18})", re.DOTALL)
_LOGS = re.compile(r"train\.log|metrics\.jsonl|.*\.tfevents\..*")


@dataclass(frozen=True)
class Run:
    """One run. ``path`` is what the other commands take, ``prefix`` its (best) checkpoint or None with ``problem``.

    ``latest`` are other checkpoints that belong to it. ``nbytes`` and ``modified`` are of all its files, ``orphans``
    those beside it that nothing names. ``linked``: its bytes lie elsewhere, behind a symbolic link.
    """

    path: str
    kind: Kind
    prefix: str | None
    problem: CkptError | None = field(default=None, compare=False)
    latest: tuple[str, ...] = ()
    nbytes: int = 0
    modified: float = 0.0
    orphans: tuple[str, ...] = ()
    linked: bool = False


@dataclass(frozen=True)
class _Folder:
    """One directory: its files, the directories in it that may hold runs, the files that nothing names, the links
    to directories outside of what is looked at."""

    path: str
    files: dict[str, Fingerprint] = field(default_factory=dict)
    below: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return paths.normal(os.path.join(self.path, STATE_FILE))

    @cached_property
    def states(self) -> dict[str, State]:
        """What the state files say, by their names; without one that cannot be read."""
        found: dict[str, State] = {}
        with contextlib.suppress(CkptError):
            found |= other_states(self.path)
        if self.state in self.files:
            with contextlib.suppress(CkptError):
                found[STATE_FILE] = read_state(self.path)
        return found

    @cached_property
    def groups(self) -> dict[str, dict[str, int | None]]:
        """The files of each prefix, data files with the number of shards in their names."""
        groups: dict[str, dict[str, int | None]] = {}
        for path in self.files:
            part = bundle_part(path)
            if part is not None:
                groups.setdefault(part.prefix or _HERE, {})[path] = part.count
        return groups

    @cached_property
    def sets(self) -> dict[str, list[str]]:
        """The sharded checkpoints of version 1: ``PREFIX-?????-of-N`` and the files of each."""
        sets: dict[str, list[str]] = {}
        for path in self.files:
            pattern = v1_set(path)
            if pattern and bundle_part(path) is None:
                sets.setdefault(pattern, []).append(path)
        return sets

    @cached_property
    def named(self) -> set[str]:
        """The prefixes that the state files name: without their index they are damaged, not orphans."""
        found = set()
        for name, state in self.states.items():
            for stored in (state.latest, *state.all):
                with contextlib.suppress(CkptError):
                    found.add(_normal(inside(self.path, stored, name)))
        return found

    def has(self, path: str) -> bool:
        return paths.normal(path) in self.files

    def of(self, prefix: str) -> Files:
        """The files of one checkpoint."""
        own = (prefix, *self.groups.get(prefix, ()))
        return {path: self.files[path] for path in own if path in self.files}


class Discovery:
    """A walk through a tree. After it ``orphans`` are the files that nothing names in directories without a run, and
    ``problems`` the directories that could not be listed, ``outside`` the links to directories that do not lie below
    the root: they are not followed, for one to ``/`` would lead through the whole machine."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        # All paths below are normal, as those that a state file leads to are: equal paths are equal texts.
        self.root = paths.normal(os.fspath(root))
        self.orphans: list[str] = []
        self.problems: list[CkptError] = []
        self.outside: list[str] = []
        self._real_root = paths.real(self.root)
        self._seen: set[Hashable] = set()

    def runs(self) -> Iterator[Run]:
        """Every run, directory by directory. Raises NotFoundError when the root is no directory."""
        if not paths.is_directory(self.root):
            raise NotFoundError(
                "not a directory",
                path=self.root,
                hint=did_you_mean(self.root) or "pass a directory that holds experiments",
            )
        if self._enter(self.root):
            yield from self._walk(self.root, declared=_is_declared(self.root))

    def _walk(self, top: str, *, declared: bool, within: str | None = None) -> Iterator[Run]:
        """The runs of a directory that was entered. ``declared``: a ``ckpt.toml`` lies above it; ``within`` is a
        declared run that is being put together."""
        # A stack, because a tree may be deeper than Python recurses.
        waiting = [(top, declared)]
        while waiting:
            directory, told = waiting.pop()
            if directory != top and not self._enter(directory):
                continue
            kind = self._kind(directory)
            if kind is None:
                continue
            told = told or _has_declaration(directory)
            run = _declared_at(directory) if told and directory != within else None
            if kind == "experiment":
                yield from self._experiment(directory)
            elif kind == "saved-model":
                yield self._saved_model(directory)
            elif run is not None:
                yield from self._declared(directory, run)
            else:
                folder = self._list(directory)
                waiting += [(path, told) for path in reversed(folder.below)]
                self.outside += folder.outside
                if os.path.basename(paths.absolute(directory)) == RUNS_ROOT:
                    yield from self._logs_alone(folder)
                found = [*self._checkpoints(folder), *self._strays(folder)]
                yield from self._with_orphans(found, folder.orphans)

    def _declared(self, directory: str, run: DeclaredRun) -> Iterator[Run]:
        """A run as it is declared, with its best or else its newest checkpoint; beside it what is no part of it."""
        found = list(self._walk(directory, declared=True, within=directory))
        prefixes: list[str] = []
        with contextlib.suppress(CkptError):  # several may be the best one, or they lie elsewhere
            first = run.best_prefix() or run.latest_prefix()
            prefixes = [_normal(each) for each in (first, *run.checkpoints()) if each is not None]
        # As absolute paths: the declaration's own directory is one.
        own = {paths.absolute(each): place for place, each in reversed(list(enumerate(prefixes)))}
        parts = [each for each in found if each.prefix is not None and paths.absolute(each.prefix) in own]
        parts.sort(key=lambda each: own[paths.absolute(each.prefix or "")])
        if not parts or paths.absolute(parts[0].prefix or "") != paths.absolute(prefixes[0]):
            yield from found
            return
        yield Run(
            path=directory,
            kind="declared",
            prefix=parts[0].prefix,
            latest=tuple(each.path for each in parts[1:]),
            nbytes=sum(each.nbytes for each in parts),
            modified=max(each.modified for each in parts),
            orphans=tuple(sorted(orphan for each in parts for orphan in each.orphans)),
            linked=any(each.linked for each in parts),
        )
        yield from (each for each in found if each not in parts)

    def _experiment(self, directory: str) -> Iterator[Run]:
        experiment = Experiment(directory)
        best, problem = _best(experiment)
        closed = len(self.problems)
        others: list[Run] = []
        latest: list[Run] = []
        # Only this project's trainer saves a newest state apart: what it went on from is the same run, earlier.
        resumed = (
            best is not None
            and os.path.dirname(best) == paths.normal(experiment.best_line)
            and self._asked(lambda _: experiment.has_latest, experiment.latest_line)
        )
        files: dict[str, Fingerprint] = {}
        orphans: list[str] = []
        lines = {paths.normal(experiment.best_line), paths.normal(experiment.latest_line)}
        followed: set[str] = set()
        waiting = [directory]
        while waiting:
            here = waiting.pop()
            model = self._asked(is_saved_model, here)
            if model is None:
                continue
            if model:
                others.append(self._saved_model(here))
                continue
            folder = self._list(here)
            # A line of checkpoints may be kept elsewhere: that directory is looked at, and nothing below it.
            elsewhere = [path for path in folder.outside if path in lines]
            followed.update(elsewhere)
            self.outside += [path for path in folder.outside if path not in followed]
            below = elsewhere if here in followed else [*elsewhere, *reversed(folder.below)]
            waiting += [path for path in below if self._enter(path)]
            files.update(folder.files)
            orphans += folder.orphans
            for run in self._checkpoints(folder):
                if run.prefix != best:
                    own = here == paths.normal(experiment.latest_line) or (resumed and _is_superseded(run, best))
                    (latest if own else others).append(run)
        if best is None and isinstance(problem, NotFoundError) and len(self.problems) > closed:
            problem = self.problems[closed]  # what cannot be listed may hold it
        apart = {run.path for run in others}
        files = {path: status for path, status in files.items() if apart.isdisjoint(_wholes(path))}
        whole = self._run(directory, "experiment", best, files, problem, [run.path for run in latest])
        yield from self._with_orphans([whole, *others], orphans)

    def _saved_model(self, directory: str) -> Run:
        files: dict[str, Fingerprint] = {}
        waiting = [directory]
        while waiting:
            folder = self._list(waiting.pop())
            waiting += [path for path in folder.below if self._enter(path)]
            self.outside += folder.outside
            files.update(folder.files)
        return self._run(directory, "saved-model", directory, files)

    def _checkpoints(self, folder: _Folder) -> Iterator[Run]:
        """The checkpoints and the Keras files of one directory."""
        for prefix in folder.groups:
            has_index, has_graph = folder.has(index_name(prefix)), folder.has(meta_name(prefix))
            if _is_checkpoint(prefix, folder) if has_index else has_graph and prefix in folder.files:
                yield self._run(prefix, "checkpoint", prefix, folder.of(prefix))
        for pattern, members in folder.sets.items():
            prefix = _prefix_of_set(pattern)
            if meta_name(prefix) in folder.files and index_name(prefix) not in folder.files:
                files = {path: folder.files[path] for path in (*members, meta_name(prefix))}
                yield self._run(pattern, "checkpoint", pattern, files)
        wholes = {path: [path] for path in folder.files if path.endswith(_KERAS)}
        for path in folder.files:
            if (whole := keras_map_of(path)) in wholes:
                wholes[whole] += wholes.pop(path, [path])
        for path, members in wholes.items():
            yield self._run(path, "keras", path, {file: folder.files[file] for file in members})

    def _strays(self, folder: _Folder) -> Iterator[Run]:
        """A state file that is damaged, or names a checkpoint that is gone, stands for that checkpoint."""
        for name in dict.fromkeys((STATE_FILE, *folder.states)):
            state = paths.normal(os.path.join(folder.path, name))
            if state in folder.files:
                try:
                    named_by(folder.path, name)
                except CkptError as error:
                    path = folder.path if name == STATE_FILE else state
                    yield self._run(path, "checkpoint", None, {state: folder.files[state]}, error)

    def _logs_alone(self, runs: _Folder) -> Iterator[Run]:
        """The experiments whose checkpoints are gone, or were never saved."""
        for logs in runs.below:
            path = os.path.join(paths.parent(paths.absolute(runs.path)), BEST_ROOT, os.path.basename(logs))
            if not paths.is_directory(path):
                files = self._list(logs).files
                files = {file: status for file, status in files.items() if _LOGS.fullmatch(os.path.basename(file))}
                if files:
                    error = NotFoundError("there are logs of this run, but no checkpoint", path=path)
                    yield self._run(path, "experiment", None, files, error)

    def _with_orphans(self, runs: list[Run], orphans: list[str]) -> Iterator[Run]:
        """The runs of one place; the first of them answers for what nothing names there."""
        if runs and orphans:
            runs[0] = replace(runs[0], orphans=tuple(sorted(orphans)))
        elif orphans:
            self.orphans += sorted(orphans)
        yield from runs

    def _run(
        self,
        path: str,
        kind: Kind,
        prefix: str | None,
        files: Files,
        problem: CkptError | None = None,
        latest: Iterable[str] = (),
    ) -> Run:
        # Two names of one file take its space once.
        sizes = {(file.device, file.inode) if file.inode else path: file.size for path, file in files.items()}
        return Run(
            path=path,
            kind=kind,
            prefix=prefix,
            problem=problem,
            latest=tuple(latest),
            nbytes=sum(sizes.values()),
            modified=max((file.mtime_ns / 1e9 for file in files.values()), default=0.0),
            linked=any(self._is_linked(file) for file in files),
        )

    def _is_linked(self, path: str) -> bool:
        """Whether a link below the root is on the way to a file."""
        return paths.real(path) != os.path.join(self._real_root, paths.relative(path, self.root))

    def _leads_out(self, path: str) -> bool:
        return paths.is_link(path) and paths.relative(paths.real(path), self._real_root).split(os.sep)[0] == ".."

    def _kind(self, directory: str) -> str | None:
        """``experiment``, ``saved-model``, or ``directory``; None for one that cannot be looked into."""
        experiment = self._asked(is_experiment, directory)
        model = self._asked(is_saved_model, directory) if experiment is False else False
        if experiment is None or model is None:
            return None
        return "experiment" if experiment else "saved-model" if model else "directory"

    def _asked(self, question: Callable[[str], bool], directory: str) -> bool | None:
        """Whether a directory is something. None when the system does not say, which is no "no": what it holds would
        be taken for something else. It is then a problem, and nothing in the directory is told."""
        try:
            return question(directory)
        except StorageError as error:
            told = len(self.problems)
            self._list(directory)  # that it cannot be listed says more than what was looked for in it
            if len(self.problems) == told:
                self.problems.append(error)
            return None
        except CkptError:
            return False

    def _enter(self, directory: str) -> bool:
        """Whether a directory is new: links may lead to it a second time, or round in a circle."""
        try:
            key = paths.identity(directory)
        except CkptError as error:
            self.problems.append(error)
            return False
        new = key is not None and key not in self._seen
        self._seen.add(key)
        return new

    def _list(self, directory: str) -> _Folder:
        folder = _Folder(directory)
        try:
            found = paths.scan(directory)
        except CkptError as error:
            self.problems.append(error)
            return folder
        left = {paths.normal(left.path): left for left in leftovers_in(directory, 0, found)}
        for path, each in left.items():
            folder.orphans.extend((each.directory and list(paths.files_below(path))) or [path])
        for name, status in found.items():
            path = paths.normal(os.path.join(directory, name))
            if path in left or (name == STATE_DIRECTORY and status.directory):
                continue
            if not status.directory:
                folder.files[path] = status.fingerprint
            elif self._leads_out(path):
                folder.outside.append(path)
            else:
                folder.below.append(path)
        nameless = set(_nameless(folder))
        folder.orphans.extend(nameless)
        files = {path: status for path, status in folder.files.items() if path not in nameless}
        return _Folder(directory, files, folder.below, folder.orphans, folder.outside)


def _has_declaration(directory: str) -> bool:
    try:
        return paths.exists(os.path.join(directory, DECLARATION))
    except CkptError:
        return False


def _is_declared(directory: str) -> bool:
    """Whether a ``ckpt.toml`` speaks of a directory, whatever it says."""
    try:
        return declared_above(directory) is not None
    except CkptError:
        return True


def _declared_at(directory: str) -> DeclaredRun | None:
    """The run whose own directory this is; None where its declaration cannot be used."""
    try:
        run = DeclaredRun.above(directory)
    except CkptError:
        return None
    return run if run is not None and run.directory == paths.absolute(directory) else None


def _best(experiment: Experiment) -> tuple[str | None, CkptError | None]:
    """The prefix of the best checkpoint. When the state file is damaged, but only one is there, it is that one."""
    try:
        return _normal(experiment.best_prefix()), None
    except CkptError as error:
        for line in (experiment.best_line, experiment.path):
            names = prefixes_in(line)
            if len(names) == 1:
                return _normal(os.path.join(line, names[0])), error
        return None, error


def _is_superseded(run: Run, best: str | None) -> bool:
    """Whether a checkpoint is one that the best of its run took the place of: with a lower number in the same line, or
    the one prefix of the original trainer, in the folder above."""
    if run.kind != "checkpoint" or best is None:
        return False
    line = os.path.dirname(best)
    if os.path.dirname(run.path) == os.path.dirname(line):
        # What else lies there, a pretrained model or an average, is somebody's own.
        return os.path.basename(run.path) == ORIGINAL_PREFIX
    before, after = _SAVE.fullmatch(run.path), _SAVE.fullmatch(best)
    return bool(
        os.path.dirname(run.path) == line
        and before
        and after
        and before["name"] == after["name"]
        and int(before["number"]) < int(after["number"])
    )


def _normal(prefix: str) -> str:
    """A prefix in its normal form; one without a name, ``DIRECTORY/``, stays one."""
    return os.path.join(paths.normal(prefix), "") if prefix.endswith(os.sep) else paths.normal(prefix)


def _wholes(path: str) -> Iterator[str]:
    """Everything that a file may belong to, by its name: itself, a prefix, a directory."""
    yield path
    for place, letter in enumerate(path):
        if letter in "./":
            yield path[:place]


def _is_checkpoint(prefix: str, folder: _Folder) -> bool:
    """Not every ``.index`` is one: other programs use the name too. Data beside it, or its content, tells."""
    if prefix in folder.named or any(folder.groups[prefix].values()):
        return True
    try:
        with paths.open_file(index_name(prefix)) as file:
            kind = sniff(file)
    except CkptError:
        return True
    return kind is not None and kind.id == "table"


def _prefix_of_set(pattern: str) -> str:
    found = shard_of_v1(pattern)
    assert found is not None
    return found.prefix


def _nameless(folder: _Folder) -> list[str]:
    """Data files and graphs of checkpoints whose index is gone, and data files that the index does not count."""
    sets = {_prefix_of_set(pattern) for pattern in folder.sets}
    known = folder.named | sets
    found: list[str] = []
    for prefix, parts in folder.groups.items():
        if folder.has(index_name(prefix)):
            counts = {shards for shards in parts.values() if shards}
            if len(counts) > 1:
                right = _shards_of(prefix)
                found += [path for path, shards in parts.items() if right and shards and shards != right]
        elif prefix not in known and prefix not in folder.files:
            found += parts
    return found


def _shards_of(prefix: str) -> int | None:
    try:
        with Bundle(prefix) as bundle:
            return bundle.header.num_shards
    except CkptError:
        return None
