"""A message as people paste it, and as it was meant.

Between the program that says it and the command line that asks about it, a message gets colours, the prefixes of
loggers and of containers, the frame of a traceback, other quotes, and line breaks in the middle of words.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

# An error stands at the end of its traceback; of a log of megabytes no more is looked at.
MAX_CHARACTERS = 200_000

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|(?:\x1b|\\x1b|\\033|\\e|\^\[)\[[0-9;?]*[ "
    r"-/]*[@-~]|\[(?:\d{1,3};){0,4}\d{0,3}m(?!\w)"
)
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u00ad\u200b-\u200f\u2060\ufeff]")
_QUOTES = str.maketrans(dict.fromkeys('‘’‚‛“”„‟«»‹›´`"＇＂', "'"))
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
_PREFIX = re.compile(
    rf"(?:\s*(?:{_TIME}:?|\d\d:\d\d:\d\d(?:[.,]\d+)?|[IWEF]\d{{4}} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.]+:\d+\]"
    r"|[IWEF] [\w/.]+\.cc:\d+\]|\[[\w.-]*(?:stderr|stdout|rank|worker|INFO|WARNING|ERROR)[\w.:-]*\]|[\w.-]+ +\||E "
    r"{2,}|>+|│|┃|\|)"
    r"(?=\s|$))+",
)
_LINE_BREAKS = re.compile(r"\\r\\n|\\[nrt]")


@dataclass(frozen=True)
class Reading:
    """One way to read a message; in a ``packed`` one there is no white space at all."""

    text: str
    packed: bool = False


def readings(message: str) -> list[Reading]:
    """The ways in which a message may have been meant, the most faithful first."""
    lines = [_without_prefix(line) for line in _plain(message).splitlines()]
    spaced = " ".join(" ".join(lines).split())
    # A terminal breaks a line in the middle of a word; a string that was printed as such shows its line breaks.
    glued = " ".join("".join(line.strip("\r\n") for line in lines).split())
    shown = " ".join(_LINE_BREAKS.sub(" ", spaced).split())
    found = [Reading(text) for text in dict.fromkeys((spaced, glued, shown))]
    return [*found, Reading("".join(shown.split()), packed=True)]


def _plain(message: str) -> str:
    """Without colours, invisible characters and kinds of quotes."""
    if len(message) > MAX_CHARACTERS:
        message = message[: MAX_CHARACTERS // 4] + "\n" + message[-MAX_CHARACTERS * 3 // 4 :]
    text = _INVISIBLE.sub("", _ESCAPES.sub("", message))
    if "&" in text:
        text = html.unescape(text)
    return text.translate(_QUOTES)


def _without_prefix(line: str) -> str:
    match = _PREFIX.match(line)
    return line[match.end() :] if match else line


# What follows a path in a message, and is none of it.
_END = re.compile(r"\s*(?:\[\[|\[Op:|; |;$|: |:$|, errno|,? flags|\s\(|\)$|'|$)")


def basename(path: str) -> str:
    """The last part of a path of any system, as a message shows it (backslashes may be doubled)."""
    return re.split(r"[/\\]+", path.strip(" '\"").rstrip("/\\."))[-1]


def until_end(text: str) -> str:
    """The path at the beginning of a text that goes on behind it."""
    end = _END.search(text)
    return text[: end.start()] if end else text
