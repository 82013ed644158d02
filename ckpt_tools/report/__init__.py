"""One self-contained page about a run, or about all runs below a directory. Needs the extra ``report``."""

from __future__ import annotations

import hashlib
import os
import re

from ckpt_tools.analysis.page_contents import RunContents, ShelfContents, contents, run_contents
from ckpt_tools.errors import UnsupportedError

__all__ = ["RunContents", "ShelfContents", "contents", "page_name", "pages_of", "render", "run_contents"]


def pages_of(found: ShelfContents) -> dict[str, str]:
    """The name of a page for each run of a shelf that has a checkpoint, by the run's path."""
    return {row.path: page_name(row.path) for row in found.audit.rows if row.prefix is not None}


def page_name(path: str) -> str:
    """A file name that is of one path only, on every file system."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", path).strip("-.")[-80:]
    return f"{readable or 'run'}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}.html"


def render(found: RunContents | ShelfContents, *, home: str | None = None) -> str:
    """The page; that of a run leads back to ``home``, the page of all.

    Raises UnsupportedError when the packages of the extra are not installed.
    """
    try:
        from ckpt_tools.report.page import run_page, shelf_page
    except ImportError as error:
        raise UnsupportedError(f"a report needs {error.name}", hint="pip install 'ckpt-tools[report]'") from error
    return run_page(found, home) if isinstance(found, RunContents) else shelf_page(found)
