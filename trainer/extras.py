"""What a plain installation does not bring: asked for in one sentence, before anything else is done."""

from __future__ import annotations

from importlib.util import find_spec

from ckpt_tools.errors import UnsupportedError

INSTALL = "pip install 'ckpt-tools[trainer]'"
_NAMES = {"tensorflow": "TensorFlow", "tensorboard": "TensorBoard"}


def require(what: str, *modules: str) -> None:
    """Raise UnsupportedError, with the command to install them, when one of these modules is not installed."""
    missing = [_NAMES.get(module, module) for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UnsupportedError(f"{what} needs {' and '.join(missing)}, which {verb} not installed", hint=INSTALL)
