"""A tree of runs in the terminal, with what is in each. Needs the extra ``browse``."""

from __future__ import annotations

from ckpt_tools.errors import UnsupportedError


def browse(root: str) -> None:
    """Show the runs below a directory until the user leaves.

    Raises NotFoundError when the root is no directory, UnsupportedError when Textual is not installed.
    """
    from ckpt_tools.runs.discovery import Discovery

    # Before the screen is taken over: an error belongs on the screen that the user sees.
    next(Discovery(root).runs(), None)
    try:
        from ckpt_tools.browse.app import Browser
    except ImportError as error:
        raise UnsupportedError("browsing needs Textual", hint="pip install 'ckpt-tools[browse]'") from error
    Browser(root).run()
