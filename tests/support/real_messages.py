"""What people pasted into public issues, with the id of its cause and the place where it was found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Real:
    id: str
    source: str
    text: str


def read() -> list[Real]:
    blocks = re.split(
        r"^\[([a-z0-9-]+)\] (\S+)\n", Path(__file__).with_name("real_messages.txt").read_text(), flags=re.M
    )
    return [Real(*(part.strip("\n") for part in blocks[n : n + 3])) for n in range(1, len(blocks), 3)]


REAL = read()
