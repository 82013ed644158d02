"""The child: it opens HDF5 files whose bytes it asks for, and answers questions about them until its input ends.

    frame      kind:u8  size:u64 little-endian  content
    to it      Q a question (JSON: ask, file, bytes, seconds ...)   B the bytes it asked for   F they cannot be had
    from it    R the bytes it asks for (JSON: file, offset, size)  D the answer as bytes, before A   A the answer (JSON)
               E an error (JSON: kind, message, key, offset, hint)

What it answers is believed no more than the file is: JSON and lengths, no pickles.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
import traceback
from collections import OrderedDict
from typing import IO, Any

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.seekable import Seekable
from ckpt_tools.hdf5.library import Library

FRAME = struct.Struct("<cQ")
# The kind of an error that is none of the file.
BUG = "Bug"

# The library reads little pieces, one behind the other.
_BLOCK = 128 << 10
_MOST_BLOCKS = 64
# What Python, numpy and the library need before any file, and what each file may need beyond its values.
_BASE_BYTES = 2 << 30


def write_frame(file: IO[bytes], kind: bytes, content: bytes | memoryview) -> None:
    file.write(FRAME.pack(kind, len(content)))
    file.write(content)
    file.flush()


def read_frame(file: IO[bytes], limit: int) -> tuple[bytes, bytes] | None:
    """The next frame; None at the end. Raises ValueError when it is over the limit or cut off."""
    head = file.read(FRAME.size)
    if not head:
        return None
    if len(head) < FRAME.size:
        raise ValueError("cut off")
    kind, size = FRAME.unpack(head)
    if size > limit:
        raise ValueError(f"{size} bytes are over the limit")
    content = file.read(size)
    if len(content) < size:
        raise ValueError("cut off")
    return kind, content


class _Asked(Seekable):
    """A file whose bytes the parent has; the blocks read last are kept."""

    def __init__(self, server: Server, file: int, size: int) -> None:
        self._server = server
        self._file = file
        self._size = size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def _end(self) -> int:
        return self._size

    def readinto(self, buffer: Any) -> int:
        data = self.at(self._position, max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def exactly(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self._size:
            raise CorruptError(f"needs {size} bytes at {offset} of {self._size}")
        return self.at(offset, size)

    def at(self, offset: int, size: int) -> bytes:
        if size > _BLOCK:
            return self._server.fetch(self._file, offset, size)
        parts = []
        end = offset + size
        while offset < end:
            number = offset // _BLOCK
            block = self._block(number)
            part = block[offset - number * _BLOCK : end - number * _BLOCK]
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            start = number * _BLOCK
            block = self._server.fetch(self._file, start, min(_BLOCK, self._size - start))
            self._blocks[number] = block
            while len(self._blocks) > _MOST_BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(number)
        return block


class Server:
    """Answers what comes in."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source = source
        self._target = target
        self._open: dict[int, Library] = {}

    def serve(self) -> None:
        while (frame := read_frame(self._source, 1 << 30)) is not None:
            question = json.loads(frame[1])  # noqa: TID251 - of a process of ours
            try:
                limit(int(question["bytes"]), float(question["seconds"]))
                answer = self._answer(question)
            except CkptError as error:
                document: dict[str, Any] = {
                    "kind": type(error).__name__,
                    "message": error.message,
                    "key": error.key,
                    "offset": error.offset,
                    "hint": error.hint,
                }
                write_frame(self._target, b"E", json.dumps(document).encode("utf-8", "replace"))
            except MemoryError:
                document = {
                    "kind": "CorruptError",
                    "message": "the HDF5 library wanted more memory than the file is worth",
                }
                write_frame(self._target, b"E", json.dumps(document).encode())
            except Exception:
                document = {"kind": BUG, "message": traceback.format_exc()}
                write_frame(self._target, b"E", json.dumps(document).encode("utf-8", "replace"))
            else:
                write_frame(self._target, b"A", json.dumps(answer).encode("utf-8", "replace"))

    def fetch(self, file: int, offset: int, size: int) -> bytes:
        """Bytes of a file. Raises OSError when the parent does not have them."""
        write_frame(self._target, b"R", json.dumps({"file": file, "offset": offset, "size": size}).encode())
        frame = read_frame(self._source, size)
        if frame is None:
            raise SystemExit
        if frame[0] != b"B":
            raise OSError("the bytes cannot be read")
        return frame[1]

    def _answer(self, question: dict[str, Any]) -> Any:
        ask, file = question["ask"], int(question["file"])
        if ask == "open":
            stream = _Asked(self, file, int(question["size"]))
            self._open[file] = Library(stream, int(question["size"]), stream.exactly)
            return self._open[file].outline()
        library = self._open[file]
        if ask == "close":
            del self._open[file]
            library.close()
            return None
        if ask == "attributes":
            return library.attributes()
        if ask == "edit":
            patch = library.edited(question["edits"])
            pieces = [[offset, data.hex()] for offset, data in patch.pieces]
            return {"kept": patch.kept, "size": patch.size, "pieces": pieces}
        name = str(question["name"])
        if ask == "rows":
            write_frame(self._target, b"D", library.rows(name, int(question["first"]), int(question["count"])))
            return None
        if ask == "strings":
            strings = library.strings(name)
            lengths = struct.pack(f"<Q{len(strings)}Q", len(strings), *map(len, strings))
            write_frame(self._target, b"D", lengths + b"".join(strings))
            return None
        return library.places(name)


def limit(nbytes: int, seconds: float) -> None:
    """No question takes more memory than its values need, nor more of the processor's time than it is given."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    # Each by itself: where one is refused, the others hold all the same.
    with contextlib.suppress(ValueError, OSError):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # the signal that comes then ends it
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = _BASE_BYTES + 4 * nbytes
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def own_signals() -> None:
    """Ctrl-C is for the parent, whose end is the end of the input here; the end of the time is for this process."""
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGPROF"):
            signal.signal(signal.SIGPROF, signal.SIG_DFL)


def main() -> None:
    own_signals()
    # Nothing that the library prints may get into the answers.
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    sys.stdin = sys.stdout = None
    import h5py  # noqa: F401 (loaded while the parent prepares its question)

    with contextlib.suppress(BrokenPipeError):
        Server(source, target).serve()
    # Not the usual end, in which h5py frees what a damaged file has left behind.
    os._exit(0)
