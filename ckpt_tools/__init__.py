"""Inspect, verify, repair and backfill TensorFlow checkpoints, without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt_tools.version import __version__

if TYPE_CHECKING:
    from ckpt_tools.api import audit, backfill, diff, export, inspect, open, repair, resume_check, undo, verify

__all__ = [
    "__version__",
    "audit",
    "backfill",
    "diff",
    "export",
    "inspect",
    "open",
    "repair",
    "resume_check",
    "undo",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Imported when used: the package itself must stay as light as its version number.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ckpt_tools import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
