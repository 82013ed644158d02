"""Which Chinese pages are missing, or older than the English ones.

    python scripts/translations.py                  list them; exit 1 when there are any
    python scripts/translations.py --accept PAGE... these (English) pages are translated as they are now

A translation is written by hand: accept a page when its Chinese text says what the English one says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from documents import ENGLISH_PAGES, ROOT, chinese_of, head, is_current


def problems() -> Iterator[str]:
    """A line for each page that is not translated as it is."""
    for page in ENGLISH_PAGES:
        chinese, name = chinese_of(page), page.relative_to(ROOT).as_posix()
        if not chinese.is_file():
            yield f"missing: {name}: write {chinese.relative_to(ROOT).as_posix()}"
        elif not is_current(page):
            yield f"stale: {name}: renew its translation, then: python scripts/translations.py --accept {name}"


def accept(page: Path) -> None:
    chinese = chinese_of(page)
    text = chinese.read_text()
    old, _, rest = text.partition("\n")
    chinese.write_text(head(page) + (rest if old.startswith("<!-- translation of ") else text))


def main() -> int:
    if sys.argv[1:2] == ["--accept"]:
        for name in sys.argv[2:]:
            accept(Path(name).resolve())
        return 0
    found = list(problems())
    print("\n".join(found) or "every page is translated")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
