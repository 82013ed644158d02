"""Commands of this process with faults at their calls of the operating system, and directories as plain values.

What strace does to a process from outside is done here from inside, some hundred times faster: every call of ``os``
that a command makes can be refused, be refused although it was done, be cut in half (a write), or be the last one
before the process is killed; after that no call does anything, so that nothing is cleaned up.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ckpt_tools.analysis import stability
from ckpt_tools.errors import CkptError
from ckpt_tools.runs import ledger

READING = ("stat", "lstat", "fstat", "listdir", "scandir", "readlink", "pread", "statvfs", "access")
CHANGING = (
    *("open", "write", "fsync", "link", "symlink", "replace", "rename", "unlink", "mkdir", "rmdir"),
    *("utime", "fchmod", "fchown", "ftruncate", "copy_file_range"),
)
ERRORS = ("ENOSPC", "EIO", "ESTALE", "EACCES", "EROFS", "EDQUOT", "EMFILE", "EINTR")
# Refused although it was done: a server that answers late.
LATE = ("replace", "link", "unlink", "mkdir", "rmdir")


class Killed(BaseException):
    """Nothing that would clean up after it does anything."""


@dataclass(frozen=True)
class Fault:
    """What happens at a command's ``call``-th call: ``killed``, ``half`` done, ``late``, or an error's name."""

    call: int
    kind: str


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its error, if it had one, and how many calls it made."""

    error: BaseException | None
    calls: tuple[str, ...]

    @property
    def finished(self) -> bool:
        return self.error is None


def run(
    command: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault | None = None,
    *,
    links: str | None = None,
) -> Outcome:
    """Run a command. ``links``: what every attempt at a hard link answers, where there are none.

    An error that is not of the family of `CkptError` fails the test.
    """
    calls: list[str] = []
    dead = False

    def disturbed(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal dead
            if dead:
                raise Killed
            calls.append(name)
            if links is not None and name == "link":
                raise OSError(getattr(errno, links), os.strerror(getattr(errno, links)))
            if fault is None or fault.call != len(calls) - 1:
                return original(*arguments, **options)
            if fault.kind == "half" and name == "write":
                original(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if fault.kind == "late" and name in LATE:
                original(*arguments, **options)
            if fault.kind in ("killed", "half"):
                dead = True
                raise Killed
            number = errno.EIO if fault.kind == "late" else getattr(errno, fault.kind)
            raise OSError(number, os.strerror(number))

        return call

    error: BaseException | None = None
    with monkeypatch.context() as patch:
        for name in (*READING, *CHANGING):
            if hasattr(os, name):
                patch.setattr(os, name, disturbed(name))
        patch.setattr(stability, "let_rest", lambda: None)
        patch.setattr(ledger, "datetime", Clock)
        try:
            command()
        except (CkptError, Killed) as caught:
            error = caught
    return Outcome(error, tuple(calls))


def faults(calls: Sequence[str], every: int, *, last: int = 3) -> Iterator[tuple[Fault, str]]:
    """At every so-manieth call that changes something, and at the last ones: killed, done by half, refused, late; each
    where that can be, and in words."""
    changing = [number for number, call in enumerate(calls) if call in CHANGING]
    for number in sorted({*changing[::every], *changing[-last:]}):
        kinds = ["killed", "ENOSPC", *(["half"] if calls[number] == "write" else [])]
        for kind in (*kinds, "late") if calls[number] in LATE else kinds:
            yield Fault(number, kind), f"{kind} at {number} {calls[number]}"


class Clock:
    """Stands still, so that the same change has the same id."""

    @staticmethod
    def now(zone: Any) -> Any:
        from datetime import datetime

        return datetime(2026, 1, 1, tzinfo=zone)


# ------------------------------------------------------------------------------------ directories as values

State = tuple[tuple[str, str, Any], ...]
_TOKEN = re.compile(r"\.tmp-[0-9a-f]{8}")
_contents: dict[str, bytes] = {}


def seen(folder: Path) -> State:
    """What is in a directory: each path with its kind, what it holds, and which paths are names of one file."""
    rows: list[tuple[str, str, Any]] = []
    numbers: dict[int, int] = {}
    tokens: dict[str, str] = {}

    def look(where: str, shown: str) -> None:
        # As `os.walk` does, without making each path twice: this is asked after each of some hundred thousand faults.
        with os.scandir(where) as found:
            entries = sorted(found, key=lambda entry: (entry.is_dir(), entry.name))
        for entry in entries:
            name = _TOKEN.sub(lambda match: tokens.setdefault(match[0], f".tmp-{len(tokens):08x}"), entry.name)
            path = shown + name
            if entry.is_symlink():
                rows.append((path, "link", os.readlink(entry.path)))
            elif entry.is_dir():
                rows.append((path, "folder", None))
                look(entry.path, f"{path}/")
            else:
                status = entry.stat(follow_symlinks=False)
                with open(entry.path, "rb") as file:
                    content = file.read()
                digest = hashlib.sha256(content).hexdigest()
                _contents[digest] = content
                group = numbers.setdefault(status.st_ino, len(numbers)) if status.st_nlink > 1 else -1
                rows.append((path, "file", (digest, group)))

    look(str(folder), "")
    return tuple(sorted(rows))


_LONG_AGO = 10**9  # in seconds since 1970


def build(state: State, folder: Path) -> None:
    """Make a directory that is as a state says. All files are of one time: who deletes some has noted it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    first: dict[int, Path] = {}
    for name, kind, _ in state:
        if kind == "folder":
            (folder / name).mkdir()
    for name, kind, what in state:
        path = folder / name
        if kind == "link":
            path.symlink_to(what)
        elif kind == "file":
            digest, group = what
            if group in first:
                os.link(first[group], path)
            else:
                path.write_bytes(_contents[digest])
                os.utime(path, (_LONG_AGO, _LONG_AGO))
                if group >= 0:
                    first[group] = path


def held(state: State, *, ending: str = "") -> set[str]:
    """The digests of the files of a state, wherever they are; with ``ending`` in their names only."""
    return {what[0] for name, kind, what in state if kind == "file" and ending in name}


def files(state: State) -> dict[str, str]:
    """The files beside the checkpoints, and those in backups, with their digests: all but ledger and journal."""
    return {name: what[0] for name, kind, what in state if kind == "file" and not name.endswith((".jsonl", ".json"))}


@contextmanager
def unlocked(folder: Path) -> Iterator[None]:
    """The block must find, and leave, the directory without a lock."""
    yield
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------ what an index may suffer


def removed(index: Path) -> None:
    index.unlink()


def emptied(index: Path) -> None:
    os.truncate(index, 0)


def cut_off(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2)


def one_byte_changed(index: Path) -> None:
    with index.open("r+b") as file:
        file.seek(5)
        byte = file.read(1)
        file.seek(5)
        file.write(bytes([byte[0] ^ 1]))


def of_another(index: Path) -> None:
    index.write_bytes((index.parent.parent / "other.index").read_bytes())


HARMS = [removed, emptied, cut_off, one_byte_changed, of_another]
