"""What a plain installation does not bring: asked for in one sentence, before anything else is done."""

from __future__ import annotations

from importlib.util import find_spec

from ckpt_tools.errors import UnsupportedError

INSTALL = "pip install 'ckpt-tools[trainer]'"
_NAMES = {"tensorflow": "TensorFlow", "tensorboard": "TensorBoard"}


def installed(module: str) -> bool:
    return find_spec(module) is not None


def require(what: str, *modules: str) -> None:
    """Raise UnsupportedError, with the command to install them, when one of these modules is not installed."""
    missing = [_NAMES.get(module, module) for module in modules if not installed(module)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UnsupportedError(f"{what} needs {' and '.join(missing)}, which {verb} not installed", hint=INSTALL)
