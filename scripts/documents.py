"""The pages of the documentation, what in them is made by programs, and which page is the translation of which.

A page has prose, which somebody writes, and parts that are made: outputs of commands, files for them, tables of a
registry. A Chinese page, ``docs/zh/PAGE`` or ``README.zh-CN.md``, has prose of its own and takes the rest from the
English page. Its first line names that page and the digest of the prose that was translated: while the English prose is
still that, the translation is of today.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
CHINESE = DOCS / "zh"
ENGLISH_PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if not page.is_relative_to(CHINESE)),
]
README_CHINESE = ROOT / "README.zh-CN.md"

# What a command prints, what is run without being shown, a file for the commands below it.
BLOCK = re.compile(
    r"<!-- (?P<kind>run|hidden): (?P<command>.*?) -->\n(?:```text\n.*?```\n)?"
    r"|<!-- file: (?P<file>\S+) -->\n(?:```\w+\n(?P<text>.*?)```\n)?",
    re.DOTALL,
)
# What is made of a registry, by the name of who makes it.
MADE = re.compile(r"<!-- (?P<made>\w+): begin -->\n.*?<!-- (?P=made): end -->\n", re.DOTALL)
_HEAD = re.compile(r"<!-- translation of (?P<page>\S+), digest (?P<digest>[0-9a-f]{12}) -->\n")


def chinese_of(page: Path) -> Path:
    """Where the translation of an English page is."""
    return README_CHINESE if page == ROOT / "README.md" else CHINESE / page.relative_to(DOCS)


def english_of(page: Path) -> Path | None:
    """The English page that a Chinese one translates; None for an English page."""
    if page == README_CHINESE:
        return ROOT / "README.md"
    return DOCS / page.relative_to(CHINESE) if page.is_relative_to(CHINESE) else None


def digest(page: Path) -> str:
    """Of the prose of a page, and of the files that it shows: outputs change without making a translation stale."""
    prose = MADE.sub(lambda found: found["made"], page.read_text())
    prose = BLOCK.sub(lambda found: found[0] if found["file"] else found["command"], prose)
    return hashlib.sha256(prose.encode()).hexdigest()[:12]


def head(page: Path) -> str:
    """The first line of the translation of an English page as it is now."""
    return f"<!-- translation of {page.relative_to(ROOT).as_posix()}, digest {digest(page)} -->\n"


def is_current(page: Path) -> bool:
    """Whether the translation of an English page is one of its present prose."""
    found = _HEAD.match(chinese_of(page).read_text())
    return found is not None and found[0] == head(page)


def marks(text: str) -> list[str]:
    """What is made in a page, in its order."""
    return [found[0].partition("-->")[0] for found in sorted([*BLOCK.finditer(text), *MADE.finditer(text)], key=_place)]


def filled(text: str, english: str) -> str:
    """A Chinese page with the blocks of the English one.

    Raises ValueError when it has others, or has them in another order.
    """
    if marks(text) != marks(english):
        raise ValueError(f"has other blocks than its English page: {marks(text)} instead of {marks(english)}")
    blocks: Iterator[str] = (found[0] for found in BLOCK.finditer(english))
    return BLOCK.sub(lambda _: next(blocks), text)


# Between two Chinese characters a reader would see the end of a line as a blank.
_CHINESE = "\u4e00-\u9fff，。；：、！？（）“”《》"
_BROKEN = re.compile(rf"(?<=[{_CHINESE}])\n *(?=[{_CHINESE}])")
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def unbroken(text: str) -> str:
    """A Chinese page without ends of lines between two of its characters."""
    parts = _FENCED.split(text)
    return "".join(part if number % 2 else _BROKEN.sub("", part) for number, part in enumerate(parts))


def _place(found: re.Match[str]) -> int:
    return found.start()
