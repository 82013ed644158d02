"""One self-contained page about a run, or about all runs below a directory. Needs the extra ``report``."""

from __future__ import annotations

import hashlib
import os
import re

from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import UnsupportedError
from ckpt_tools.report.contents import OnProgress, RunContents, ShelfContents, run_contents, shelf_contents
from ckpt_tools.runs.discovery import Discovery
from ckpt_tools.runs.experiments import is_experiment

__all__ = ["RunContents", "ShelfContents", "contents", "page_name", "pages_of", "render", "run_contents"]


def contents(path: str, progress: OnProgress | None = None) -> RunContents | ShelfContents:
    """What a page about this path says: of one run, or of a directory with several (or none).

    ``progress`` is told the bytes read of one run, and those that there are. Raises what `verify` raises for one run.
    """
    return _only_run(path, progress) or shelf_contents(path)


@steady
def _only_run(path: str, progress: OnProgress | None) -> RunContents | None:
    """What is said of the run that a path means; None for a directory with several, or with none."""
    if not os.path.isdir(path) or is_experiment(path):
        return run_contents(path, progress)
    runs = [run for _, run in zip(range(2), Discovery(path).runs(), strict=False)]
    return run_contents(runs[0].path, progress) if len(runs) == 1 and runs[0].prefix else None


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
