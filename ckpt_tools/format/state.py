"""The ``checkpoint`` file of a directory: a text message that names the newest checkpoint.

    model_checkpoint_path: "ckpt-3"
    all_model_checkpoint_paths: "ckpt-2"
    all_model_checkpoint_paths: "ckpt-3"
    all_model_checkpoint_timestamps: 1700000000.25
    all_model_checkpoint_timestamps: 1700000600.5
    last_preserved_timestamp: 1699999999.0

The list is what TensorFlow's savers own: they delete its oldest when they save. The timestamps belong to the paths,
first to first; ``tf.train.CheckpointManager`` forgets the checkpoints that have none.

Source: tensorflow/python/checkpoint/checkpoint_management.py, checkpoint_state.proto (a text-format message, see
protobuf.dev/reference/protobuf/textformat-spec).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError

MAX_BYTES = 1 << 20

_LATEST, _ALL = "model_checkpoint_path", "all_model_checkpoint_paths"
_TIMESTAMPS, _PRESERVED = "all_model_checkpoint_timestamps", "last_preserved_timestamp"

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF8_MARK = codecs.BOM_UTF8

_SPACE = re.compile(r"(?:\s|\#[^\n]*)*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_STRING = re.compile(r""" "((?:[^"\\\n]|\\.)*)" | '((?:[^'\\\n]|\\.)*)' """.strip(), re.VERBOSE)
_NUMBER = re.compile(r"[-+]?[.\w]+(?:(?<=[eE])[-+]\d+)?")
_OCTAL = re.compile(r"-?0\d")  # no number with a point, to the library
_SEPARATORS = ",;"
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SIGNS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_SIGNS |= {sign: sign for sign in (b'"', b"'", b"\\")}
_BEGUN = (b"x", b"u", b"U", b"N")  # with the digits that belong to them they are others


@dataclass(frozen=True)
class State:
    """``latest`` is the newest checkpoint's path as written, relative to the file's directory or absolute; ``all``
    those that the program owns, oldest first. ``timestamps`` (of ``all``) and ``preserved`` are as they are written."""

    latest: str
    all: tuple[str, ...] = ()
    timestamps: tuple[str, ...] = ()
    preserved: str | None = None

    def encode(self) -> bytes:
        """The bytes of the file, its fields in the order in which TensorFlow writes them."""
        lines = [f'{_LATEST}: "{_escape(self.latest)}"']
        lines += [f'{_ALL}: "{_escape(path)}"' for path in self.all]
        lines += [f"{_TIMESTAMPS}: {time}" for time in self.timestamps]
        if self.preserved is not None:
            lines.append(f"{_PRESERVED}: {self.preserved}")
        return ("\n".join(lines) + "\n").encode()


def decode_state(data: bytes) -> State:
    """Raises CorruptError for anything but such a file; never takes a damaged one for "no checkpoint yet"."""
    if data.startswith(_UTF16):
        raise CorruptError("not UTF-8: UTF-16 text, which TensorFlow does not read", offset=0)
    if data.startswith(_UTF8_MARK):
        raise CorruptError("begins with a byte order mark, which TensorFlow does not read", offset=0)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CorruptError("not UTF-8", offset=error.start) from error
    found = _Fields()
    position = 0
    while (position := _after_space(text, position)) < len(text):
        try:
            position = found.read(text, position)
        except _NotAField as error:
            line = text.count("\n", 0, position) + 1
            raise CorruptError(f"line {line} {error}") from error
    if not found.latest:
        raise CorruptError("names no checkpoint (no model_checkpoint_path)")
    return found.state(found.latest[0])


def remains_of_state(data: bytes) -> State:
    """What can be read of a damaged file, line by line; ``latest`` is empty where no line names it.

    Of several lines that name the newest the last counts: such a file was written twice, one behind the other.
    """
    found = _Fields(lenient=True)
    if data.startswith(_UTF16):
        # PowerShell and some editors write it; what is cut off in the middle of a character is left out.
        data = data[: len(data) // 2 * 2].decode("utf-16", "replace").encode()
    for line in data.removeprefix(_UTF8_MARK).split(b"\n"):
        try:
            text = line.decode()
            position = 0
            while (position := _after_space(text, position)) < len(text):
                position = found.read(text, position)
        except (UnicodeDecodeError, _NotAField, CorruptError):
            continue
    paths = dict.fromkeys(found.all)
    alike = len(paths) == len(found.all)
    return State(
        found.latest[-1] if found.latest else "",
        tuple(paths),
        tuple(found.timestamps) if alike else (),
        found.preserved[-1] if found.preserved and alike else None,
    )


def encode_state(latest: str, every: Iterable[str]) -> bytes:
    """The bytes of a ``checkpoint`` file; ``every`` is oldest first and includes ``latest``."""
    return State(latest, tuple(every)).encode()


class _NotAField(ValueError):
    """What is there is no field of a text message; the text is for behind the number of the line."""


class _Fields:
    """The fields of a file, gathered one after the other. ``lenient``: fields may come a second time."""

    def __init__(self, *, lenient: bool = False) -> None:
        self.latest: list[str] = []
        self.all: list[str] = []
        self.timestamps: list[str] = []
        self.preserved: list[str] = []
        self._lenient = lenient

    def state(self, latest: str) -> State:
        preserved = self.preserved[0] if self.preserved else None
        return State(latest, tuple(self.all), tuple(self.timestamps), preserved)

    def read(self, text: str, start: int) -> int:
        """Take in the field that begins at ``start``; returns where it ends, its separator included."""
        name = _NAME.match(text, start)
        if name is None:
            raise _NotAField('is not of the form  name: "value"')
        position = _after_space(text, name.end())
        if text[position : position + 1] != ":":
            raise _NotAField('is not of the form  name: "value"')
        values, end = _values(text, _after_space(text, position + 1))
        self._take(name[0], values)
        if text[end : end + 1] and text[end] in _SEPARATORS:
            return end + 1
        return end

    def _take(self, name: str, values: list[tuple[str, str | None]]) -> None:
        paths = [path for _, path in values]
        if name in (_LATEST, _ALL):
            if None in paths:
                raise _NotAField("should hold a path in quotes")
            known = [path for path in paths if path is not None]
            if name == _ALL:
                self.all += known
            else:
                self._once(self.latest, [path for path in known if path], "names the newest checkpoint")
        elif name in (_TIMESTAMPS, _PRESERVED):
            numbers = [value for value, _ in values]
            for number in numbers:
                _require_number(number)
            if name == _TIMESTAMPS:
                self.timestamps += numbers
            else:
                self._once(self.preserved, numbers, "says when one was last preserved")
        else:
            raise _NotAField(f"has a field {name} that TensorFlow does not know: it ignores such a file as a whole")

    def _once(self, known: list[str], values: list[str], what: str) -> None:
        if not self._lenient and len(known) + len(values) > 1:
            raise _NotAField(f"{what} a second time")
        known += values


def _values(text: str, start: int) -> tuple[list[tuple[str, str | None]], int]:
    """One value, or the ones of a list in brackets, each as written and (a string) unescaped; where they end."""
    if text[start : start + 1] != "[":
        value, end = _value(text, start)
        return [value], end
    found: list[tuple[str, str | None]] = []
    position = _after_space(text, start + 1)
    while text[position : position + 1] != "]":
        if found:
            if text[position : position + 1] != ",":
                raise _NotAField("holds a list without its end")
            position = _after_space(text, position + 1)
        value, end = _value(text, position)
        found.append(value)
        position = _after_space(text, end)
    return found, position + 1


def _value(text: str, start: int) -> tuple[tuple[str, str | None], int]:
    pieces = []
    end = start
    position = start
    while (match := _STRING.match(text, position)) is not None:
        pieces.append(match[1] if match[1] is not None else match[2])
        end = match.end()
        position = _after_space(text, end)  # strings that follow each other are one
    if pieces:
        return (text[start:end], _unescape("".join(pieces))), end
    number = _NUMBER.match(text, start)
    if number is None:
        raise _NotAField('is not of the form  name: "value"')
    return (number[0], None), number.end()


def _require_number(text: str) -> None:
    try:
        if _OCTAL.match(text):
            raise ValueError(text)
        float(text.rstrip("fF") if "inf" not in text.lower() else text)
    except ValueError as error:
        raise _NotAField("should hold a number") from error


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


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
    """As the protocol buffer library of Python reads a string: a backslash that begins nothing stays one."""

    def character(match: re.Match[bytes]) -> bytes:
        octal, byte, *points, sign = match.groups()
        try:
            if octal or byte:
                return bytes([int(octal, 8) if octal else int(byte, 16)])
            for point in filter(None, points):
                return chr(int(point, 16)).encode()
        except (ValueError, OverflowError) as error:  # no byte, or no character
            raise _no_escape(match) from error
        if sign in _BEGUN:
            raise _no_escape(match)
        return _SIGNS.get(sign, match[0])

    try:
        return _ESCAPE.sub(character, text.encode()).decode()
    except UnicodeDecodeError as error:
        raise CorruptError("a path is not UTF-8") from error


def _no_escape(match: re.Match[bytes]) -> _NotAField:
    return _NotAField(f"has an escape that TensorFlow does not read: {match[0].decode()}")
