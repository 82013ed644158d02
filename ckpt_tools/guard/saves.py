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

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.format.filenames import (
    KERAS_ENDINGS,
    KERAS_MAPS,
    META,
    STATE_DIRECTORY,
    bundle_part,
    index_name,
    is_data,
    is_draft,
    is_events,
    keras_map_of,
    meta_name,
    shard_of_v1,
)
from ckpt_tools.fs import local
from ckpt_tools.fs.notices import Notices, notices_of
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.saved_model import VARIABLES
from ckpt_tools.runs.pins import Kind

# Larger trees are no runs: looking at them all the time would cost more than the training.
MOST_ENTRIES = 50_000
_SKIPPED = {"__pycache__", "node_modules", ".git", STATE_DIRECTORY}
_LOGS = (".log", ".out", ".txt", ".jsonl", ".csv")
# So many changes that nobody told of, and the system is not relied on any more.
_MOST_SURPRISES = 2
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

    @property
    def origin(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size in bytes and time in nanoseconds of each file: what a pin tells its version by."""
        return tuple((file.name, file.size, file.mtime_ns) for file in self.files)

    def data(self, file: File) -> bool:
        """Whether a file holds a bundle's data, which TensorFlow renames into place and never changes after that."""
        return is_data(file.name)

    def unchanged(self) -> bool:
        """Whether its files still are what they were."""
        try:
            return all(_status(self.directory, file.name) == file for file in self.files)
        except OSError:
            return False


def _status(directory: str, name: str) -> File:
    status = os.stat(os.path.join(directory, name))
    return File(name, status.st_ino, status.st_size, status.st_mtime_ns)


def _alike(directory: str, name: str) -> tuple[str, str]:
    """What the files of numbered saves have in common."""
    return directory, re.sub(r"\d+", "0", name)


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

    ``logs`` are its logs with their sizes, ``active`` the time at which a file of a save was first seen changing,
    ``crowded`` tells that the tree is too large to be looked at. With ``listening`` the system is asked to tell of
    changes; ``notices`` is what does, None where it cannot.
    """

    root: str
    aside: str
    logs: dict[str, int] = field(default_factory=dict)
    crowded: bool = False
    listening: bool = False
    notices: Notices | None = None
    _surprises: int = 0
    _folders: dict[str, _Folder] = field(default_factory=dict)
    _versions: dict[str, tuple[Save, float]] = field(default_factory=dict)
    _drafts: set[int] = field(default_factory=set)
    _renaming: set[tuple[str, str]] = field(default_factory=set)
    _in_place: set[tuple[str, str]] = field(default_factory=set)
    _complete: set[Save] = field(default_factory=set)

    def look(self) -> list[tuple[Save, float]]:
        """The saves that are there, each with the time at which this version of it was first seen."""
        now = time.time()
        found: dict[str, tuple[Save, float]] = {}
        logs, self.logs = self.logs, {}
        told = not self.is_told or self._heard()
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
                        self._renaming.add(_alike(save.directory, file.name))
                begun = known[1] if known is not None and known[0] not in self._complete else now
                found[save.path] = (save, begun)
        changed = self.logs != logs or any(found[path] is not self._versions.get(path) for path in found)
        if changed and not told and not self._heard():
            self._surprised()
        self._versions = found
        self._complete &= {save for save, _ in found.values()}
        return list(found.values())

    def comes_by_rename(self, save: Save) -> bool:
        """Whether its data, or that of saves called alike, was seen to be replaced by other files, and never changed in
        place: a trainer may copy its best over an older one, beside what TensorFlow renames."""
        alike = {_alike(save.directory, file.name) for file in save.files if save.data(file)}
        return bool(alike) and alike <= self._renaming and not alike & self._in_place

    @property
    def is_told(self) -> bool:
        """Whether the system tells of what changes, as far as is known."""
        return self.notices is not None and self.notices.watches(self.root)

    def _heard(self) -> bool:
        """Whether the system told of a change since it was last asked."""
        return self.notices is not None and self.notices.take()

    def _listen(self, directory: str, inode: int) -> bool:
        """Be told of a directory; True when it was not watched before. Raises OSError when it is gone."""
        if self.listening and self.notices is None:
            self.notices = notices_of(self.root)
            self.listening = self.notices is not None
        if self.notices is None:
            return False
        try:
            return self.notices.watch(directory, inode)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError:  # there are no more watches for this user
            self.stop_listening()
            return False

    def _surprised(self) -> None:
        self._surprises += 1
        if self._surprises >= _MOST_SURPRISES:
            self.stop_listening()

    def stop_listening(self) -> None:
        self.listening = False
        if self.notices is not None:
            self.notices.close()
            self.notices = None

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
                self._in_place.add(_alike(new.directory, file.name))
            else:
                self._renaming.add(_alike(new.directory, file.name))

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
            known = None if self._listen(path, status.st_ino) else self._folders.get(path)
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
        if is_draft(name):
            try:
                self._listen(place, os.stat(place).st_ino)
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
            if is_draft(name):
                continue
            part = bundle_part(name)
            if part is not None and part.part == "meta":
                # The graph of a TensorFlow 1 session: written behind the checkpoint, and no part of it.
                if part.prefix and index_name(part.prefix) not in there:
                    yield from self._version_1(folder, part.prefix, names)
            elif part is not None:
                if part.prefix:
                    bundles.setdefault(part.prefix, []).append(name)
            elif name.endswith(KERAS_ENDINGS):
                if keras_map_of(name) not in there:
                    yield from self._save(folder, name, "keras", [name])
            elif name.endswith(KERAS_MAPS):
                shards = [each for each in names if keras_map_of(each) == name]
                yield from self._save(folder, name, "keras", [*shards, name])
            elif name.endswith(_LOGS) or is_events(name):
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    self.logs[path] = status.st_size
        for prefix, parts in bundles.items():
            if index_name(prefix) in there:
                yield from self._save(folder, prefix, "bundle", parts)

    def _save(self, folder: str, name: str, kind: Kind, names: list[str]) -> Iterator[Save]:
        try:
            files = tuple(_status(folder, each) for each in sorted(names))
        except OSError:
            return  # it is being replaced: the next look sees it
        if files and all(file.size for file in files if not file.name.endswith(META)):
            yield Save(os.path.join(folder, name) if name else folder, kind, folder, files)

    def _version_1(self, folder: str, prefix: str, names: list[str]) -> Iterator[Save]:
        shards = {name: part for name in names if (part := shard_of_v1(name)) and part.prefix == prefix}
        single = [prefix] if prefix in names else []
        if single or shards:
            label = prefix if single else next(iter(shards.values())).pattern
            yield from self._save(folder, label, "v1", [*(single or shards), meta_name(prefix)])

    def _is_saved_model(self, folder: str) -> bool:
        known = self._folders.get(folder)
        if known:
            return "saved_model.pb" in known.names
        try:
            return local.is_there(os.path.join(folder, "saved_model.pb"))
        except CkptError:
            return False  # the next look sees it

    def _saved_model(self, folder: str) -> Iterator[Save]:
        names = []
        for place, below, files in os.walk(folder):
            below[:] = [name for name in below if not is_draft(name) and name not in _SKIPPED]
            names += [os.path.relpath(os.path.join(place, name), folder) for name in files]
            if len(names) > MOST_ENTRIES:
                return
        if index_name(VARIABLES) in names:
            yield from self._save(folder, "", "saved-model", names)
