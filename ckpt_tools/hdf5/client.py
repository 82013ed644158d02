"""The process that reads HDF5 files for this one: started when the first file is opened, and again after a crash.

It is not forked: this process may have threads, whose locks a fork would copy in any state, and no fork is known on
some systems. One child serves all files of a process, side by side; when it ends on a file, that file is tried once
more in another one that has seen no file before it.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from ckpt_tools import errors
from ckpt_tools.errors import CkptError, CorruptError, StorageError
from ckpt_tools.hdf5.server import BUG, FRAME, write_frame

# How many seconds of a processor one question may take: then the library goes round and round.
SECONDS = 60.0
# How long the child may say nothing at all.
SILENT_SECONDS = 600
_MOST_ANSWER_BYTES = 512 << 20
_MOST_AT_ONCE = 1 << 20
# How long a process that closed its output may take to end.
_END_SECONDS = 5
# What a process ends with that goes wrong by itself.
_CRASHES = {
    getattr(signal, name, 0) for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS", "SIGTRAP")
}
_NONSENSE = "gives an answer that makes no sense for this file"
# How often it may ask for the bytes of a file, in sizes of the file.
_MOST_ASKED = 100
_MOST_ASKED_FREE = 64 << 20
_KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, CkptError)}
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HDF5_PLUGIN_PRELOAD": "::",
}


class Bytes(Protocol):
    """What the child asks for: a file or a part of one."""

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes: ...


class EndedError(CorruptError):
    """The child came to its end; ``alone`` when no other file can have been the cause."""

    alone = True


class KilledError(StorageError):
    """Somebody, or the system where memory is short, ended the child: that tells nothing of the file."""


class Child:
    """A running child; any thread may ask it, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._files: dict[int, Bytes] = {}
        self._numbers = itertools.count(1)
        self._owner = os.getpid()
        self._failed = False
        self._opened = 0
        start = (
            "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from ckpt_tools.hdf5.server import main; main()"
        )
        arguments = [sys.executable, "-c", start, json.dumps(sys.path)]
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, **_ENVIRONMENT},
            )
        except OSError as error:
            raise StorageError(f"cannot start the process that reads HDF5: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._source, self._target = self._process.stdout, self._process.stdin

    @property
    def usable(self) -> bool:
        """Whether it belongs to this process, which may have been forked, and still runs."""
        return self._owner == os.getpid() and not self._failed and self._process.poll() is None

    def open(self, source: Bytes) -> tuple[int, dict[str, Any]]:
        """The number of the file there, and its outline. Raises what `Library` raises, and what ``source`` does."""
        number = next(self._numbers)
        self._files[number] = source
        self._opened += 1
        try:
            return number, self.ask("open", number, source.size, size=source.size)
        except BaseException:
            self._files.pop(number, None)
            raise

    def close_file(self, number: int) -> None:
        if self.usable and number in self._files:
            with contextlib.suppress(CkptError):
                self.ask("close", number)
        self._files.pop(number, None)

    def ask(self, ask: str, number: int, nbytes: int = 0, **more: Any) -> Any:
        """The answer to one question that is about so many bytes: bytes, or what JSON has.

        Raises CorruptError when the child crashes, hangs or asks for too much, as does what the library finds.
        """
        with self._lock:
            source = self._files[number]
            left = _MOST_ASKED * source.size + _MOST_ASKED_FREE
            failure: CkptError | None = None
            data: bytes | None = None
            most = _MOST_ANSWER_BYTES + nbytes
            question = {"ask": ask, "file": number, "bytes": nbytes, "seconds": SECONDS, **more}
            try:
                self._send(b"Q", json.dumps(question).encode())
                while True:
                    kind, content = self._receive(source.path, most)
                    if kind == b"R":
                        wanted = json.loads(content)  # noqa: TID251 - of a process of ours
                        offset, size = int(wanted["offset"]), int(wanted["size"])
                        left -= size
                        if left < 0 or size > source.size:
                            raise self._lost(source.path, "reads the same bytes again and again")
                        try:
                            self._send(b"B", self._files[int(wanted["file"])].read(offset, size))
                        except CkptError as error:
                            failure = failure or error
                            self._send(b"F", b"")
                    elif kind == b"D":
                        data = content
                    elif failure is not None:
                        raise failure
                    elif kind == b"E":
                        document = json.loads(content)  # noqa: TID251 - of a process of ours
                        if document["kind"] == BUG:
                            raise RuntimeError(document["message"])
                        raise _error(document, source.path)
                    else:
                        return json.loads(content) if data is None else data  # noqa: TID251 - of a process of ours
            except OSError as error:
                raise self._end(source.path) from error
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise self._lost(source.path, _NONSENSE) from error
            except BaseException as error:
                if not isinstance(error, CkptError):
                    self.stop()  # interrupted in the middle of an answer
                raise

    def stop(self) -> None:
        """End it; it has nothing to lose."""
        self._failed = True
        if self._owner == os.getpid():
            self._process.kill()
            with self._lock:
                self._process.wait()
        for file in (self._source, self._target):
            with contextlib.suppress(OSError):
                file.close()

    def _send(self, kind: bytes, content: bytes) -> None:
        write_frame(self._target, kind, content)

    def _receive(self, path: str, most: int) -> tuple[bytes, bytes]:
        kind, size = FRAME.unpack(self._exactly(FRAME.size, path))
        if size > most:
            raise ValueError(f"{size} bytes are over the limit")
        return kind, self._exactly(size, path)

    def _exactly(self, size: int, path: str) -> bytes:
        found = bytearray()
        while len(found) < size:
            part = self._part(min(size - len(found), _MOST_AT_ONCE), path)
            if not part:
                raise ChildProcessError("its answers ended")
            found += part
        return bytes(found)

    def _part(self, size: int, path: str) -> bytes:
        """Some bytes, or none at the end; waits no longer than a child may say nothing."""
        if os.name == "posix":
            if not select.select([self._source], [], [], SILENT_SECONDS)[0]:
                raise self._lost(path, f"hung on this file (no answer for {SILENT_SECONDS} seconds)")
            return os.read(self._source.fileno(), size)
        timer = threading.Timer(SILENT_SECONDS, self._process.kill)
        timer.start()
        try:
            return os.read(self._source.fileno(), size)
        finally:
            timer.cancel()

    def _end(self, path: str) -> CkptError:
        """The error that tells how the child came to its end: a crash tells something of the file, a kill does not."""
        self._failed = True
        try:
            code = self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            return self._lost(path, _NONSENSE)
        if code >= 0:
            return self._lost(path, f"crashed on this file (exit code {code})")
        number = -code
        if number == getattr(signal, "SIGPROF", None):
            return self._lost(path, "went round and round in this file")
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if number in _CRASHES:
            return self._lost(path, f"crashed on this file ({name})")
        self.stop()
        hint = "run the same command again; where memory is short the system ends processes: free some first"
        return KilledError(f"cannot read: the process that reads HDF5 was killed ({name})", path=path, hint=hint)

    def _lost(self, path: str, what: str) -> EndedError:
        """The error that tells of the child's end, which is its end in any case."""
        self.stop()
        hint = "copy or download the file again"
        error = EndedError(f"the HDF5 library {what}: its structure is damaged", path=path, hint=hint)
        error.alone = self._opened == 1
        return error


_current: Child | None = None
_starting = threading.Lock()


def child() -> Child:
    """The child that serves this process; another one after a crash, a damaged file, or a fork."""
    global _current
    with _starting:
        if _current is None or not _current.usable:
            if _current is not None:
                _current.stop()
            _current = Child()
        return _current


def open_file(source: Bytes) -> tuple[Child, int, dict[str, Any]]:
    """The child that has the file, its number there and its outline. Raises what `Library` and ``source`` raise."""
    for again in tries():
        server = child()
        with again:
            return server, *server.open(source)
    raise AssertionError


def tries() -> Iterator[contextlib.AbstractContextManager[None]]:
    """Blocks, to be tried one after the other until one ends well: a child that ended may be no fault of this file.

    What another file may have caused is tried until the child has seen no other; a killed one is replaced once.
    """
    killed = 0

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        nonlocal killed
        try:
            yield
        except EndedError as error:
            if error.alone:
                raise
        except KilledError:
            killed += 1
            if killed > 1:
                raise

    while True:
        yield again()


@atexit.register
def _stop() -> None:
    if _current is not None and _current.usable:
        _current.stop()


def _error(document: dict[str, Any], path: str) -> CkptError:
    kind = _KINDS.get(str(document.get("kind")), CorruptError)
    offset = document.get("offset")
    key, hint = document.get("key"), document.get("hint")
    return kind(
        str(document.get("message")),
        path=path,
        offset=offset if isinstance(offset, int) else None,
        key=None if key is None else str(key),
        hint=None if hint is None else str(hint),
    )
