"""The categories of items, from the file about items that a data set has beside its interactions. No TensorFlow.

amazon2014, amazon2023   lines of JSON or Python: asin or parent_asin, categories (or category): the last one
movielens                movies.csv, movies.dat or u.item: the first genre
steam                    steam_games.json: id, genres: the first
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from ckpt_tools.errors import CorruptError, NotFoundError, UsageError
from ckpt_tools.fs import local
from trainer.data.raw import Format, encoding_of, is_gzip, literal

_BLOCK = 1 << 20
_LONGEST_LINE = 64 << 20
_FLAGS_FROM = 5  # u.item of MovieLens 100K: id|title|date|date|URL, and then 19 flags


def categories_of(path: str, kind: Format, wanted: Collection[str], encoding: str = "utf-8") -> dict[str, str]:
    """Category by item's name, for those ``wanted`` that the file tells one of. A file that has no mark of its encoding
    and is not UTF-8 is read as ``encoding``, that of the interactions.

    Raises NotFoundError, UsageError (a format without such a file, an archive, another data set's), CorruptError
    (nothing in it can be read).
    """
    parse = _PARSERS.get(kind)
    if parse is None:
        raise UsageError(
            f"--metadata is not known for --format {kind}",
            hint=f"it is for {', '.join(sorted(_PARSERS))}; leave it out",
        )
    if not local.is_file(path, follow=True):
        raise NotFoundError("no such file", path=path)
    found: dict[str, str] = {}
    lines = parsed = 0
    for line in _lines(path, encoding):
        lines += 1
        try:
            item, category = parse(line)
        except (ValueError, KeyError, TypeError, IndexError, SyntaxError, RecursionError, MemoryError, csv.Error):
            continue  # real files have items without any category
        parsed += 1
        if item in wanted:
            found[item] = category
    if lines and not parsed:
        raise CorruptError(f"no line of it tells the category of an item of {kind}", path=path)
    if not found:
        raise UsageError("tells the category of none of these items", path=path, hint="is it of another data set?")
    return found


def _lines(path: str, encoding: str) -> Iterator[str]:
    with open(path, "rb") as raw:
        stream: Any = gzip.open(raw) if is_gzip(raw, path) else raw  # noqa: SIM115
        buffered = io.BufferedReader(stream, _BLOCK)
        try:
            # A beginning of ASCII alone is in every encoding, and tells of none.
            plain = buffered.peek(_BLOCK).isascii()
            chosen = encoding_of(buffered, (encoding, "utf-8") if plain else ("utf-8", encoding))
            text = io.TextIOWrapper(buffered, encoding=chosen, errors="replace", newline="\n")
            while line := text.readline(_LONGEST_LINE):
                if line := line.strip():
                    yield line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorruptError("the gzip file is damaged or cut off", path=path) from error


def _of_amazon(line: str) -> tuple[str, str]:
    item = literal(line.encode())
    name = item.get("parent_asin") or item["asin"]
    path = item.get("categories") or item.get("category") or item["main_category"]
    while isinstance(path, list):
        # 2014 gives several paths, of which the original takes the first; of a path the last is the narrowest.
        path = path[0] if isinstance(path[0], list) else path[-1]
    return _text(name), _text(path)


def _of_movielens(line: str) -> tuple[str, str]:
    if "::" in line:
        name, _, genres = line.split("::")
    elif line.count("|") >= _FLAGS_FROM + 1 and not line.partition("|")[0].count(","):
        name, *rest = line.split("|")
        return name, str([int(flag) for flag in rest[_FLAGS_FROM - 1 :]].index(1))
    else:
        name, _, genres = next(csv.reader(io.StringIO(line)))
    if name == "movieId":
        raise ValueError(name)
    return _text(name), _text(genres.split("|")[0])


def _of_steam(line: str) -> tuple[str, str]:
    game = literal(line.encode())
    return _text(game["id"]), _text((game.get("genres") or game["tags"])[0])


def _text(value: object) -> str:
    if not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(value)
    return str(value)


_PARSERS: dict[str, Callable[[str], tuple[str, str]]] = {
    "amazon2014": _of_amazon,
    "amazon2023": _of_amazon,
    "movielens": _of_movielens,
    "steam": _of_steam,
}
