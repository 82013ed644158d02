"""Whether the commands of a ``ckpt.toml`` may run: only when its user said so, and only as it was then.

What was said lies in the user's own configuration directory, never beside the file: a folder that was downloaded cannot
bring it along.
"""

from __future__ import annotations

import os
import shlex

from ckpt_tools.errors import CkptError, UnsafeError
from ckpt_tools.format import json_text
from ckpt_tools.fs import paths
from ckpt_tools.lineages.declared.grammar import Declaration

_MAX_BYTES = 16 << 20


def trust_file() -> str:
    """Where it is kept which files are trusted: ``$XDG_CONFIG_HOME/ckpt-tools/trusted.json``, else below ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "ckpt-tools", "trusted.json")


def trusted_files() -> dict[str, str]:
    """The digests (SHA-256) of trusted files by their real paths. What cannot be read trusts nothing."""
    path = trust_file()
    try:
        document = json_text.parse(paths.read_file(path, limit=_MAX_BYTES)) if paths.is_file(path) else {}
    except (CkptError, ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in document.items()} if isinstance(document, dict) else {}


def is_trusted(declaration: Declaration) -> bool:
    """Whether its user trusted this very file; presets name no command."""
    if declaration.path is None:
        return True
    return trusted_files().get(paths.real(declaration.path)) == declaration.digest


def require_trust(declaration: Declaration) -> None:
    """Raises UnsafeError when the commands of a file may not run."""
    if not is_trusted(declaration):
        assert declaration.path is not None
        raise UnsafeError(
            "names a command, and is not trusted as it is now: nothing was run",
            path=declaration.path,
            hint=f"read it; then: ckpt lineage trust {shlex.quote(os.path.dirname(declaration.path))}",
        )
