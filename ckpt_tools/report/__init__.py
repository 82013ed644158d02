"""One self-contained page about a run, or about all runs below a directory. Needs the extra ``report``."""

from __future__ import annotations

from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import UnsupportedError
from ckpt_tools.fs import local
from ckpt_tools.report.contents import RunContents, ShelfContents, run_contents, shelf_contents
from ckpt_tools.runs.discovery import Discovery
from ckpt_tools.runs.experiments import is_experiment

__all__ = ["RunContents", "ShelfContents", "contents", "render"]


def contents(path: str) -> RunContents | ShelfContents:
    """What a page about this path says: of one run, or of a directory with several (or none).

    Raises what `inspect` raises for one run that cannot be opened.
    """
    return _only_run(path) or shelf_contents(path)


@steady
def _only_run(path: str) -> RunContents | None:
    """What is said of the run that a path means; None for a directory with several, or with none."""
    if not local.is_directory(path, follow=True) or is_experiment(path):
        return run_contents(path)
    runs = [run for _, run in zip(range(2), Discovery(path).runs(), strict=False)]
    return run_contents(runs[0].path) if len(runs) == 1 and runs[0].prefix else None


def render(found: RunContents | ShelfContents) -> str:
    """The page. Raises UnsupportedError when the packages of the extra are not installed."""
    try:
        from ckpt_tools.report.page import run_page, shelf_page
    except ImportError as error:
        raise UnsupportedError(f"a report needs {error.name}", hint="pip install 'ckpt-tools[report]'") from error
    return run_page(found) if isinstance(found, RunContents) else shelf_page(found)
