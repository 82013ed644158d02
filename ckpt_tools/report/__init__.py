"""One self-contained page about a run, or about all runs below a directory. Needs the extra ``report``."""

from __future__ import annotations

from ckpt_tools.analysis.page_contents import RunContents, ShelfContents, contents
from ckpt_tools.errors import UnsupportedError

__all__ = ["RunContents", "ShelfContents", "contents", "render"]


def render(found: RunContents | ShelfContents) -> str:
    """The page. Raises UnsupportedError when the packages of the extra are not installed."""
    try:
        from ckpt_tools.report.page import run_page, shelf_page
    except ImportError as error:
        raise UnsupportedError(f"a report needs {error.name}", hint="pip install 'ckpt-tools[report]'") from error
    return run_page(found) if isinstance(found, RunContents) else shelf_page(found)
