"""Pack the experiment of ``ckpt demo`` from the fixtures: the same bytes each time.

python scripts/pack_demo.py
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "ckpt_tools" / "operations" / "data" / "demo.zip"
EXPERIMENT = "book_ComiRec-DR_b128_lr0.005_d8_len20_k3_ComiRec-DR"


def members() -> Iterator[tuple[str, Path]]:
    """Each file of the demo with its name in it: one old experiment with its logs, and its data."""
    old = ROOT / "fixtures" / "experiments" / "tf2.21"
    for base, below in (
        (old, old / "best_model" / EXPERIMENT),
        (old, old / "runs" / EXPERIMENT),
        (ROOT / "fixtures", ROOT / "fixtures" / "data"),
    ):
        for path in sorted(below.rglob("*")):
            if path.is_file():
                yield path.relative_to(base).as_posix(), path


def main() -> None:
    ARCHIVE.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(ARCHIVE, "w") as archive:
        for name, path in members():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
