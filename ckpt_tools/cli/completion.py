"""What a shell offers when a path or the name of a tensor is completed: only what the commands take."""

from __future__ import annotations

import os
import re

import typer

from ckpt_tools.errors import CkptError


def complete_path(incomplete: str) -> list[str]:
    """Directories, prefixes of checkpoints and Keras files that begin so.

    A shell puts a blank behind the only answer, and a directory is not the end of a path: when there is only one, what
    is in it is offered instead.
    """
    from ckpt_tools.runs.typed_paths import matching

    found = matching(incomplete)
    while len(found) == 1 and found[0].endswith(os.sep):
        below = matching(found[0])
        if not below:
            break
        found = below
    # zsh and fish quote by themselves; bash takes what it is given.
    return [_quoted(path) for path in found] if os.environ.get("_CKPT_COMPLETE") == "complete_bash" else found


def _quoted(path: str) -> str:
    return re.sub(r"""([\s\\"'`$&|;<>()*?\[\]{}!#])""", r"\\\1", path)


def complete_tensor(context: typer.Context, incomplete: str) -> list[str]:
    """The names of the tensors of the checkpoint that stands before it on the line."""
    from ckpt_tools.analysis.inspection import inspect

    # While the line is not complete, what is no option stays in args.
    path = context.params.get("path") or next(iter(context.args), None)
    try:
        tensors = inspect(path).tensors if path else ()
    except CkptError:
        return []
    names = (name for tensor in tensors for name in (tensor.canonical, tensor.name) if name)
    return sorted({name for name in names if name.startswith(incomplete)})
