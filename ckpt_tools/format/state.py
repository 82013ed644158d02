"""The ``checkpoint`` file of a directory: a text message that names the newest checkpoint.

    model_checkpoint_path: "ckpt-3"
    all_model_checkpoint_paths: "ckpt-2"
    all_model_checkpoint_paths: "ckpt-3"

Source: tensorflow/python/checkpoint/checkpoint_management.py, checkpoint_state.proto (a text-format message).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError

FILE_NAME = "checkpoint"
MAX_BYTES = 1 << 20

_LINE = re.compile(
    r"""\s* (?P<name>\w+) \s* : \s* (?: "(?P<double>(?:[^"\\\n]|\\.)*)" | '(?P<single>(?:[^'\\\n]|\\.)*)'
        | (?P<number>[-+.\w]+) ) \s* (?:\#.*)? """,
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_CONTROL = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


@dataclass(frozen=True)
class State:
    """``latest`` is the newest checkpoint's path as written, relative to the file's directory or absolute."""

    latest: str
    all: tuple[str, ...]


def decode_state(data: bytes) -> State:
    """Raises CorruptError for anything but such a file; never takes a damaged one for "no checkpoint yet"."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CorruptError("not UTF-8", offset=error.start) from error
    latest = ""
    everything = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise CorruptError(f'line {number} is not of the form  name: "value"')
        value = match["double"] if match["double"] is not None else match["single"]
        if match["name"] not in ("model_checkpoint_path", "all_model_checkpoint_paths"):
            continue
        if value is None:
            raise CorruptError(f"line {number} should hold a path in quotes")
        if match["name"] == "all_model_checkpoint_paths":
            everything.append(_unescape(value))
        elif latest:
            raise CorruptError(f"line {number} names the newest checkpoint a second time")
        else:
            latest = _unescape(value)
    if not latest:
        raise CorruptError("names no checkpoint (no model_checkpoint_path)")
    return State(latest, tuple(everything))


def encode_state(latest: str, every: Iterable[str]) -> bytes:
    """The bytes of a ``checkpoint`` file; ``every`` is oldest first and includes ``latest``."""
    lines = [f'model_checkpoint_path: "{_escape(latest)}"']
    lines += [f'all_model_checkpoint_paths: "{_escape(path)}"' for path in every]
    return ("\n".join(lines) + "\n").encode()


def _escape(text: str) -> str:
    out = []
    for byte in text.encode():
        character = chr(byte)
        if character in '"\\':
            out.append("\\" + character)
        else:
            out.append(character if 0x20 <= byte < 0x7F else f"\\{byte:03o}")
    return "".join(out)


def _unescape(text: str) -> str:
    def character(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes([int(match[1], 8) & 0xFF])
        if match[2]:
            return bytes([int(match[2], 16)])
        return _CONTROL.get(match[3], match[3])

    try:
        return _ESCAPE.sub(character, text.encode()).decode()
    except UnicodeDecodeError as error:
        raise CorruptError("a path is not UTF-8") from error
