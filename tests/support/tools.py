"""Programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def find_tool(name: str, package: str | None = None) -> str:
    """The path of a system tool. Without it the test is skipped, or fails where CKPT_TOOLS_REQUIRE lists the tool."""
    path = shutil.which(name)
    if path is None:
        reason = f"needs {name}, which is not installed (Debian package: {package or name})"
        if name in os.environ.get("CKPT_TOOLS_REQUIRE", "").replace(",", " ").split():
            pytest.fail(reason)
        pytest.skip(reason)
    return path
