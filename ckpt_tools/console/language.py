"""The language in which people are spoken to: English, or Chinese where the locale or ``--lang zh`` asks for it.

Only what people read is said otherwise: JSON, ids, reports for machines and the ledger are English. Sentences are made
in English wherever they are made, and said in Chinese by `said`, from the table ``zh.toml``: its keys are the English
sentences, with ``{}`` for what differs from case to case. What is not in the table is said in English.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final, Literal

Language = Literal["en", "zh"]
LANGUAGES: Final = ("en", "zh")
HOLE = "{}"

# Looked at in this order, as POSIX says; the first that is set decides.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


@dataclass
class _Choice:
    language: Language = "en"


_choice = _Choice()


def choose(language: Language | None) -> None:
    """Speak this language from now on; None: the one of the locale, as far as stdout can show it."""
    _choice.language = language or _of_locale()


def chinese() -> bool:
    return _choice.language == "zh"


def _of_locale() -> Language:
    name = next(filter(None, (os.environ.get(variable) for variable in _VARIABLES)), "")
    if not name.lower().startswith("zh"):
        return "en"
    try:
        "中文".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return "en"
    return "zh"


def said(sentence: str) -> str:
    """A sentence in the language that is spoken; as it is when the table has none like it."""
    return translated(sentence, table()) if chinese() else sentence


def label(level: str, identity: str) -> str:
    """What a finding or an error begins with. ``ckpt explain ID`` tells more of what stands in the brackets."""
    return f"{said(level)}[{identity}]: "


@dataclass(frozen=True)
class Table:
    """The sentences without holes, and the parts between the holes of the others, those with most words first."""

    exact: Mapping[str, str]
    patterns: Sequence[tuple[tuple[str, ...], str]]


@cache
def table() -> Table:
    """The table of Chinese sentences that comes with the package."""
    from importlib import resources  # who speaks English needs neither

    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    text = resources.files("ckpt_tools.console").joinpath("zh.toml").read_text("utf-8")
    sentences: dict[str, str] = {}
    for part in toml.loads(text).values():
        sentences |= part
    patterns = [(tuple(key.split(HOLE)), value) for key, value in sentences.items() if HOLE in key]
    patterns.sort(key=lambda pattern: -sum(map(len, pattern[0])))
    return Table({key: value for key, value in sentences.items() if HOLE not in key}, patterns)


def translated(sentence: str, table: Table, depth: int = 3) -> str:
    """A sentence by a table; what fills a hole may be a sentence itself, so many times in one another."""
    if sentence in table.exact:
        return table.exact[sentence]
    for parts, translation in table.patterns if depth else ():
        filling = _filling(sentence, parts)
        if filling is not None:
            return translation.format(*(translated(each, table, depth - 1) for each in filling))
    return sentence


def _filling(sentence: str, parts: Sequence[str]) -> list[str] | None:
    """What stands between the parts, found from left to right: a sentence may be long, and made to be slow."""
    first, *inner, last = parts
    end = len(sentence) - len(last)
    if not sentence.startswith(first) or not sentence.endswith(last) or end < len(first):
        return None
    filling, place = [], len(first)
    for part in inner:
        found = sentence.find(part, place, end)
        if found < 0:
            return None
        filling.append(sentence[place:found])
        place = found + len(part)
    return [*filling, sentence[place:end]]
