"""Which declaration a checkpoint has: the ``ckpt.toml`` nearest above it, else the preset that recognises it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ckpt_tools.errors import CkptError, UnsafeError, UsageError
from ckpt_tools.format.filenames import DECLARATION
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.lineages.tensor_names import bare
from ckpt_tools.readers.base import Checkpoint

if TYPE_CHECKING:
    from ckpt_tools.lineages.declared.grammar import Declaration

# So far above a checkpoint a file still speaks of it.
_LEVELS = 6


def declared_above(path: str | os.PathLike[str]) -> Declaration | None:
    """The nearest ``ckpt.toml`` in the directory of a path or above it; of a URL none is looked for.

    The walk ends after six levels, at the root and at the home directory, whose own file is nobody's.

    Raises: what `parse` raises; UnsafeError for a file that is a link to somewhere else.
    """
    if paths.is_url(path):
        return None
    here = paths.absolute(path)
    here = here if paths.is_directory(here) else paths.parent(here)
    home = os.path.expanduser("~")
    for _ in range(_LEVELS):
        if here in (home, paths.parent(here)):
            return None
        file = os.path.join(here, DECLARATION)
        if paths.exists(file):
            return read_declaration(file)
        here = paths.parent(here)
    return None


def read_declaration(file: str) -> Declaration:
    """The declaration of one file. Raises what `parse` raises, UnsafeError for a link that leads elsewhere."""
    directory = paths.parent(paths.absolute(file))
    if paths.is_link(file) and not is_below(paths.real(file), paths.real(directory)):
        raise UnsafeError("is a link to a file elsewhere: not followed", path=file)
    from ckpt_tools.lineages.declared.grammar import MAX_BYTES, parse  # most checkpoints have no declaration

    return parse(paths.read_file(file, limit=MAX_BYTES), file, presets=preset)


def fits(name: str, pattern: str) -> bool:
    """Whether a declared pattern means a name; one with brackets means itself before it means a class."""
    return name == pattern or fnmatchcase(name, pattern)


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory, or lies in it; both normal."""
    return path == directory or path.startswith(os.path.join(directory, ""))


@functools.cache
def presets() -> tuple[Declaration, ...]:
    """All that come with the package, by name."""
    from importlib import resources  # a checkpoint of a known trainer needs none of them

    from ckpt_tools.lineages.declared.grammar import parse

    folder = resources.files("ckpt_tools.lineages") / "presets"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return tuple(parse(file.read_bytes(), file.name, preset=file.name.removesuffix(".toml")) for file in files)


def preset(name: str) -> Declaration:
    """The preset of a name. Raises UsageError, with the nearest name, when there is none."""
    from difflib import get_close_matches

    known = {each.id: each for each in presets()}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "ckpt lineage list"
        raise UsageError(f"there is no preset {name!r}", hint=hint)
    return known[name]


def recognised(checkpoint: Checkpoint) -> Declaration | None:
    """The preset that tells a checkpoint by its names and by what lies beside it; None when none or several do."""
    names: set[str] | None = None
    found = []
    for each in presets():
        rule = each.recognition
        if rule.tensors:
            names = {bare(key) for key in checkpoint.tensors} if names is None else names
            if not all(_any(names, pattern) for pattern in rule.tensors):
                continue
        if rule.files and not any(_lies_beside(checkpoint.prefix, pattern) for pattern in rule.files):
            continue
        if rule.tensors or rule.files:
            found.append(each)
    found = [each for each in found if not each.recognition.general] or found
    # Who is told by names and by files is told by more than who is told by one of them.
    best = max((_weight(each) for each in found), default=0)
    first = [each for each in found if _weight(each) == best]
    return first[0] if len(first) == 1 else None


def _weight(declaration: Declaration) -> int:
    return 2 * len(declaration.recognition.tensors) + bool(declaration.recognition.files)


def _any(names: Iterable[str], pattern: str) -> bool:
    return any(fits(name, pattern) for name in names)


def _lies_beside(prefix: str, pattern: str) -> bool:
    """Whether a pattern means the end of a prefix, of up to three parts, or what lies in its directory, or in the one
    above, as ``../NAME``."""
    path = paths.absolute(prefix)
    parts = path.replace(os.sep, "/").split("/")[-3:]
    if _any(("/".join(parts[start:]) for start in range(len(parts))), pattern):
        return True
    if paths.is_url(prefix):
        return False
    here = paths.parent(path)
    for directory, before in ((here, ""), (paths.parent(here), "../")):
        with contextlib.suppress(CkptError):
            if _has(directory, paths.fingerprint(directory), before, pattern):
                return True
    return False


@functools.lru_cache(maxsize=1024)
def _has(directory: str, fingerprint: Fingerprint, before: str, pattern: str) -> bool:  # noqa: ARG001
    """Whether a directory that has this fingerprint has a name of a pattern, which each checkpoint in it asks again."""
    return _any((f"{before}{name}" for name in paths.list_directory(directory)), pattern)
