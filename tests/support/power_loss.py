"""A model of power loss: every call that changes the file system is recorded; of those that no sync has made durable
any may be missing afterwards, also an earlier one while a later one is there, and a file that was not synced may be
empty or half. The states are built on disk, for a test to look at.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SAMPLES = 12


@dataclass(frozen=True)
class Call:
    """A change: ``kind``, the name it makes or takes away, and the one it comes from; ``data`` of a write."""

    kind: str
    path: str
    source: str = ""
    data: bytes = b""
    size: int = 0


class Recorder:
    """Stands before the functions of ``os`` and keeps what they did below a directory."""

    def __init__(self, root: Path) -> None:
        self.calls: list[Call] = []
        self._root = str(root)
        self._open: dict[int, str] = {}
        self._originals = {
            name: getattr(os, name)
            for name in ("open", "write", "fsync", "link", "replace", "unlink", "mkdir", "rmdir", "ftruncate")
        }

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name, original in self._originals.items():
            patch.setattr(os, name, self._wrap(name, original))

    def _wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            named = arguments
            if name not in ("write", "fsync", "ftruncate"):
                folders = [options.get("src_dir_fd", options.get("dir_fd")), options.get("dst_dir_fd")]
                paths = [self._path(path, folder) for path, folder in zip(arguments[:2], folders, strict=False)]
                named = (*paths, *arguments[2:]) if name in ("link", "replace") else (paths[0], *arguments[1:])
            before = isinstance(named[0], str) and os.path.lexists(named[0])
            result = original(*arguments, **options)
            self._record(name, named, result, before)
            return result

        return call

    def _path(self, path: Any, folder: int | None) -> Any:
        """The path of a name in a directory that is held open."""
        if not isinstance(path, (str, os.PathLike)):
            return path
        return os.path.abspath(os.path.join("" if folder is None else self._open[folder], os.fspath(path)))

    def _record(self, name: str, arguments: tuple[Any, ...], result: Any, existed: bool) -> None:
        first = arguments[0]
        if name == "open":
            path = first
            self._open[result] = path
            if arguments[1] & os.O_CREAT and not existed:
                self._add(Call("create", path))
        elif name in ("write", "fsync", "ftruncate"):
            path = self._open.get(first, "")
            if name == "fsync":
                self._add(Call("sync", path))
            elif name == "write":
                self._add(Call("write", path, data=bytes(arguments[1])[:result]))
            else:
                self._add(Call("truncate", path, size=arguments[1]))
        elif name in ("link", "replace"):
            self._add(Call(name, arguments[1], first))
        else:
            self._add(Call(name, first))

    def _add(self, call: Call) -> None:
        if call.path.startswith(self._root):
            self.calls.append(call)


def durable(calls: list[Call], number: int) -> bool:
    """Whether a later sync made a call certain: of the file for its bytes, of the directories for its names."""
    call = calls[number]
    later = {other.path for other in calls[number + 1 :] if other.kind == "sync"}
    if call.kind in ("write", "truncate"):
        return call.path in later
    names = (call.path, call.source) if call.kind == "replace" else (call.path,)
    return {os.path.dirname(path) for path in names} <= later


def states(calls: list[Call], chance: random.Random) -> Iterator[list[Call]]:
    """What may have happened when the power fails after these calls: all, only what is certain, and mixtures."""
    certain = [number for number in range(len(calls)) if calls[number].kind == "sync" or durable(calls, number)]
    open_ones = [number for number in range(len(calls)) if number not in set(certain)]
    chosen: list[set[int]] = [set(open_ones), set()]
    for number in open_ones:  # each one alone lost, and each one alone kept
        chosen += [set(open_ones) - {number}, {number}]
    chosen += [{number for number in open_ones if chance.random() < 0.5} for _ in range(SAMPLES)]
    seen = set()
    for kept in chosen:
        numbers = tuple(sorted({*certain, *kept}))
        if numbers not in seen:
            seen.add(numbers)
            yield [calls[number] for number in numbers]


def build(calls: list[Call], before: Path, work: Path, root: Path) -> None:
    """The directory after these calls and no others."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(before, work, copy_function=shutil.copy2)

    def place(path: str) -> str:
        return str(work) + path.removeprefix(str(root))

    for call in calls:
        path, source = place(call.path), place(call.source)
        if not os.path.isdir(os.path.dirname(path)):
            continue  # the directory itself was lost
        if call.kind == "create":
            Path(path).touch()
        elif call.kind == "mkdir":
            os.makedirs(path, exist_ok=True)
        elif call.kind == "write" and os.path.exists(path):
            with open(path, "ab") as file:
                file.write(call.data)
        elif call.kind == "truncate" and os.path.exists(path):
            os.truncate(path, call.size)
        elif call.kind == "link" and os.path.exists(source) and not os.path.lexists(path):
            os.link(source, path)
        elif call.kind == "replace" and os.path.lexists(source):
            move(source, path)
        elif call.kind == "unlink" and os.path.lexists(path):
            os.unlink(path)
        elif call.kind == "rmdir" and os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)


def move(source: str, path: str) -> None:
    """As rename does, but that two names of one file become one."""
    if os.path.lexists(path) and os.path.samefile(source, path):
        os.unlink(source)
    else:
        os.replace(source, path)


def check(
    tmp_path: Path,
    work_on: Callable[[Path], object],
    examine: Callable[[Path, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Counter[str]:
    """Run ``work_on`` once, then look with ``examine`` at every state that a power loss could have left."""
    root, before, work = tmp_path / "root", tmp_path / "before", tmp_path / "work"
    shutil.copytree(root, before, copy_function=shutil.copy2)
    recorder = Recorder(root)
    with monkeypatch.context() as patch:
        recorder.install(patch)
        work_on(root)
    assert len(recorder.calls) > 15
    chance = random.Random(11)
    outcomes: Counter[str] = Counter()
    for end in range(len(recorder.calls) + 1):
        for state in states(recorder.calls[:end], chance):
            build(state, before, work, root)
            outcomes[examine(work, f"after {end} of {len(recorder.calls)} calls: {recorder.calls[:end][-3:]}")] += 1
    return outcomes
