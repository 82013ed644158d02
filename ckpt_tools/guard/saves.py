"""Which checkpoints lie in a run, and how each is written: by a rename, or in place.

A save is one version of a checkpoint at one path: its files with their inodes, sizes and times. What another look
finds changed is another save. TensorFlow renames the data of a bundle into place, but truncates an ``.index``, an
``.h5`` and a ``.keras`` and writes them again (measured with 2.21; TensorFlow 1's Saver renames all).
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import local
from ckpt_tools.readers import open_checkpoint

Kind = Literal["bundle", "saved-model", "keras", "v1"]

# Larger trees are no runs: looking at them all the time would cost more than the training.
MOST_ENTRIES = 50_000
_SKIPPED = {"__pycache__", "node_modules", ".git", ".ckpt-tools"}
_UNFINISHED = re.compile(r".*(_temp(_[0-9a-f]{32})?|-tmp|\.tmp|\.tempstate\d*|\.orbax-checkpoint-tmp.*)", re.DOTALL)
_BUNDLE = re.compile(r"(?P<prefix>.+)\.(?:index|data-\d{5}-of-\d{5})", re.DOTALL)
_KERAS = (".h5", ".hdf5", ".keras")
_KERAS_MAP = (".weights.json", ".h5.index.json")
_KERAS_SHARD = re.compile(r"(?P<stem>.+)_\d{5}\.weights\.h5", re.DOTALL)
# The graph of a TensorFlow 1 session: written behind the checkpoint, and no part of it.
META = ".meta"
_V1_SHARD = re.compile(r"(?P<prefix>.+)-\d{5}-of-\d{5}", re.DOTALL)
_LOGS = (".log", ".out", ".txt", ".jsonl", ".csv")
_GRAIN_NS = 100_000_000  # a directory that changed this lately may have changed again within the same tick


@dataclass(frozen=True)
class File:
    """One file of a save; ``name`` is relative to the directory of the save."""

    name: str
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Save:
    """One version of a checkpoint: ``path`` is what `open_checkpoint` takes, ``directory`` what its files lie in."""

    path: str
    kind: Kind
    directory: str
    files: tuple[File, ...]

    @property
    def written(self) -> float:
        """When its last file was, in seconds since 1970."""
        return max(file.mtime_ns for file in self.files) / 1e9

    @property
    def nbytes(self) -> int:
        return sum(file.size for file in self.files)

    def data(self, file: File) -> bool:
        """Whether a file holds a bundle's data, which TensorFlow renames into place and never changes after that."""
        return re.search(r"\.data-\d{5}-of-\d{5}$", file.name) is not None

    def unchanged(self) -> bool:
        """Whether its files still are what they were."""
        try:
            return all(_status(self.directory, file.name) == file for file in self.files)
        except OSError:
            return False


def _status(directory: str, name: str) -> File:
    status = os.stat(os.path.join(directory, name))
    return File(name, status.st_ino, status.st_size, status.st_mtime_ns)


def why_not_whole(save: Save, path: str | None = None) -> Finding | None:
    """What is not there or cut off yet, without reading values; None for one that is complete."""
    try:
        with open_checkpoint(path or save.path) as checkpoint:
            damage = (finding for finding in checkpoint.outline() if finding.severity == "damage")
            return next(damage, None)
    except CkptError as error:
        return Finding(error.id, "damage", error.message, error.path)


def is_being_written(save: Save) -> bool | None:
    """Whether somebody still writes one of its files; None where the system does not tell."""
    told: bool | None = False
    for file in save.files:
        if save.data(file):
            continue
        try:
            written = local.being_written(os.path.join(save.directory, file.name))
        except CkptError:
            return True
        if written:
            return True
        told = None if written is None else told
    return told


@dataclass
class _Folder:
    mtime_ns: int
    looked: int
    names: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)


@dataclass
class Watch:
    """A run's directory, looked at again and again; what did not change costs one ``stat`` a file.

    ``logs`` are its text logs with their sizes, ``active`` the time at which a file of a save was first seen changing,
    ``crowded`` tells that the tree is too large to be looked at.
    """

    root: str
    aside: str
    logs: dict[str, int] = field(default_factory=dict)
    crowded: bool = False
    _folders: dict[str, _Folder] = field(default_factory=dict)
    _versions: dict[str, tuple[Save, float]] = field(default_factory=dict)
    _drafts: set[int] = field(default_factory=set)
    _renaming: set[str] = field(default_factory=set)
    _in_place: set[str] = field(default_factory=set)
    _complete: set[Save] = field(default_factory=set)

    def look(self) -> list[tuple[Save, float]]:
        """The saves that are there, each with the time at which this version of it was first seen."""
        now = time.time()
        found: dict[str, tuple[Save, float]] = {}
        self.logs = {}
        for folder, names in self._walk():
            for save in self._saves(folder, names):
                known = self._versions.get(save.path)
                if known is not None and known[0] == save:
                    found[save.path] = known
                    continue
                if known is not None:
                    self._learn(known[0], save)
                for file in save.files:
                    if save.data(file) and file.inode in self._drafts:
                        self._renaming.add(save.directory)
                begun = known[1] if known is not None and known[0] not in self._complete else now
                found[save.path] = (save, begun)
        self._versions = found
        self._complete &= {save for save, _ in found.values()}
        return list(found.values())

    def comes_by_rename(self, save: Save) -> bool:
        """Whether data files in this directory were seen to be replaced by others, and never changed in place."""
        return save.directory in self._renaming and save.directory not in self._in_place

    def forget(self) -> None:
        """Look at everything anew, as for the first time."""
        self._folders.clear()

    def completed(self, save: Save) -> None:
        """Take a version as complete: what changes after it is another save."""
        self._complete.add(save)

    def _learn(self, old: Save, new: Save) -> None:
        before = {file.name: file for file in old.files}
        for file in new.files:
            known = before.get(file.name)
            if known is None or not new.data(file) or known == file:
                continue
            if known.inode == file.inode:
                self._in_place.add(new.directory)
            else:
                self._renaming.add(new.directory)

    def _walk(self) -> Iterator[tuple[str, list[str]]]:
        folders = [self.root]
        entries = 0
        seen: dict[str, _Folder] = {}
        self._drafts = {*list(self._drafts)[-512:]}
        while folders:
            path = folders.pop()
            folder = self._folder(path)
            if folder is None:
                continue
            seen[path] = folder
            entries += len(folder.names) + len(folder.below)
            if entries > MOST_ENTRIES:
                self.crowded = True
                break
            folders += [os.path.join(path, name) for name in folder.below]
            yield path, folder.names
        self._folders = seen

    def _folder(self, path: str) -> _Folder | None:
        try:
            status = os.stat(path)
            known = self._folders.get(path)
            if known is not None and known.mtime_ns == status.st_mtime_ns and known.looked - _GRAIN_NS > known.mtime_ns:
                return known
            looked = time.time_ns()
            folder = _Folder(status.st_mtime_ns, looked)
            with os.scandir(path) as listed:
                for entry in listed:
                    if entry.is_symlink():
                        # A link to a checkpoint's file is one of its names; one to a directory leads elsewhere.
                        if entry.is_file():
                            folder.names.append(entry.name)
                    elif entry.is_dir():
                        self._below(folder, path, entry.name)
                    elif entry.is_file():
                        folder.names.append(entry.name)
        except OSError:
            return None
        return folder

    def _below(self, folder: _Folder, path: str, name: str) -> None:
        place = os.path.join(path, name)
        if _UNFINISHED.fullmatch(name):
            try:
                with os.scandir(place) as drafts:
                    self._drafts.update(draft.inode() for draft in drafts)
            except OSError:
                return
        elif name not in _SKIPPED and place != self.aside:
            folder.below.append(name)

    def _saves(self, folder: str, names: list[str]) -> Iterator[Save]:
        if os.path.basename(folder) == "variables" and self._is_saved_model(os.path.dirname(folder)):
            return
        if "saved_model.pb" in names:
            yield from self._saved_model(folder)
            return
        there = {*names}
        bundles: dict[str, list[str]] = {}
        for name in names:
            if _UNFINISHED.fullmatch(name):
                continue
            match = _BUNDLE.fullmatch(name)
            if match is not None:
                bundles.setdefault(match["prefix"], []).append(name)
            elif name.endswith(_KERAS):
                shard = _KERAS_SHARD.fullmatch(name)
                if shard is None or not any(f"{shard['stem']}{end}" in there for end in _KERAS_MAP):
                    yield from self._save(folder, name, "keras", [name])
            elif name.endswith(_KERAS_MAP):
                stem = next(name.removesuffix(end) for end in _KERAS_MAP if name.endswith(end))
                shards = [each for each in names if (m := _KERAS_SHARD.fullmatch(each)) and m["stem"] == stem]
                yield from self._save(folder, name, "keras", [*shards, name])
            elif name.endswith(META) and f"{name.removesuffix(META)}.index" not in there:
                yield from self._version_1(folder, name.removesuffix(META), names)
            elif name.endswith(_LOGS):
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    self.logs[path] = status.st_size
        for prefix, parts in bundles.items():
            if f"{prefix}.index" in there:
                yield from self._save(folder, prefix, "bundle", parts)

    def _save(self, folder: str, name: str, kind: Kind, names: list[str]) -> Iterator[Save]:
        try:
            files = tuple(_status(folder, each) for each in sorted(names))
        except OSError:
            return  # it is being replaced: the next look sees it
        if files and all(file.size for file in files if not file.name.endswith(META)):
            yield Save(os.path.join(folder, name) if name else folder, kind, folder, files)

    def _version_1(self, folder: str, prefix: str, names: list[str]) -> Iterator[Save]:
        shards = [name for name in names if (m := _V1_SHARD.fullmatch(name)) and m["prefix"] == prefix]
        single = [prefix] if prefix in names else []
        if single or shards:
            label = prefix if single else f"{prefix}-?????-of-{shards[0].rsplit('-', 1)[1]}"
            yield from self._save(folder, label, "v1", [*(single or shards), f"{prefix}{META}"])

    def _is_saved_model(self, folder: str) -> bool:
        known = self._folders.get(folder)
        return "saved_model.pb" in known.names if known else os.path.exists(os.path.join(folder, "saved_model.pb"))

    def _saved_model(self, folder: str) -> Iterator[Save]:
        names = []
        for place, below, files in os.walk(folder):
            below[:] = [name for name in below if not _UNFINISHED.fullmatch(name) and name not in _SKIPPED]
            names += [os.path.relpath(os.path.join(place, name), folder) for name in files]
            if len(names) > MOST_ENTRIES:
                return
        if os.path.join("variables", "variables.index") in names:
            yield from self._save(folder, "", "saved-model", names)
