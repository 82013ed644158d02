"""The names that ids had in the raw data: ``{dataset}_item_map.txt`` and ``_user_map.txt``, lines ``name,id``."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field

from ckpt_tools.errors import CorruptError
from ckpt_tools.fs import local

_MAX_BYTES = 1 << 32


@dataclass(frozen=True)
class Names:
    """Names by id; empty where there is no map."""

    users: dict[int, str] = field(default_factory=dict)
    items: dict[int, str] = field(default_factory=dict)


def read_names(data_dir: str, dataset: str) -> Names:
    """Both maps of a data set, as far as they are there. Raises CorruptError with the line."""
    return Names(*(_read(os.path.join(data_dir, f"{dataset}_{kind}_map.txt")) for kind in ("user", "item")))


def _read(path: str) -> dict[int, str]:
    if not local.is_file(path, follow=True):
        return {}
    text = local.read_file(path, limit=_MAX_BYTES).decode(errors="replace")
    found = {}
    try:
        for number, row in enumerate(csv.reader(text.split("\n")), 1):
            if not row:
                continue
            if len(row) != 2 or not row[1].isascii() or not row[1].isdigit() or len(row[1]) > 18:
                raise CorruptError(f"line {number} is not of the form name,id", path=path)
            found[int(row[1])] = row[0]
    except csv.Error as error:
        raise CorruptError(f"not a list of names and ids: {error}", path=path) from error
    return found
