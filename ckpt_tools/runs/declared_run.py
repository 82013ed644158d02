"""A run as its declaration describes it: its directory, the fields of its name, its best, its newest, its logs.

Every path that a declaration leads to is asked for again where it is used: nothing outside of the directory of its
``ckpt.toml`` is looked at, whatever links lie in it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CkptError, NotFoundError, UnsafeError
from ckpt_tools.format.filenames import DECLARATION, KERAS_ENDINGS
from ckpt_tools.fs import paths
from ckpt_tools.lineages.declared.lookup import declared_above, fits, is_below, recognised
from ckpt_tools.readers.base import Checkpoint
from ckpt_tools.readers.location import locate, prefixes_in

if TYPE_CHECKING:
    from ckpt_tools.lineages.declared.grammar import Declaration

_MOST_FOUND = 500
# So many directories are listed for one pattern.
_MOST_LISTED = 5_000
# So far above its checkpoint a run of a preset begins.
_LEVELS = 3
# Not the digits of a value: ``w.12-0.87``.
_NUMBER = re.compile(r"(?<![\d.])\d{1,18}(?![\d.]*\d)")


@dataclass(frozen=True)
class DeclaredRun:
    """``fields`` are those of the template of ``[experiment] name``; ``top`` is the directory that nothing leaves."""

    declaration: Declaration
    directory: str
    top: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def above(path: str | os.PathLike[str]) -> DeclaredRun | None:
        """The run at a path, or that it lies in, by a ``ckpt.toml``. Raises what `declared_above` raises."""
        declaration = declared_above(path)
        return None if declaration is None else _declared(declaration, paths.absolute(path))

    @staticmethod
    def of(checkpoint: Checkpoint) -> DeclaredRun | None:
        """The run of a checkpoint, also by a preset that recognises it."""
        found = DeclaredRun.above(checkpoint.prefix)
        if found is not None:
            return found
        declaration = recognised(checkpoint)
        return None if declaration is None else _of_preset(declaration, checkpoint.prefix)

    def to_json(self) -> dict[str, Any]:
        """As the lineage of a ComiRec checkpoint has it: there is no model of a known type."""
        return {**self.declaration.to_json(), "model_type": None, **self.fields, "run": self.directory}

    def best_prefix(self) -> str | None:
        """What the best is stored under; None when nothing is declared or there. Raises NotFoundError for several."""
        return _one(self._checkpoints(self.declaration.layout.best), "best", self.directory)

    def latest_prefix(self) -> str | None:
        """The newest checkpoint; None when nothing is declared or there."""
        found = self._checkpoints(self.declaration.layout.latest)
        return max(found, key=lambda prefix: _number(prefix), default=None)

    def checkpoints(self) -> list[str]:
        """All that is declared as best or newest. Raises UnsafeError where that is outside."""
        return self._checkpoints((*self.declaration.layout.best, *self.declaration.layout.latest))

    def logs(self) -> list[str]:
        """The files that are declared as logs, those of directories too."""
        found: dict[str, None] = {}
        for pattern in self.declaration.layout.logs:
            for path in self.find(pattern):
                inside = [path] if not paths.is_directory(path) else _files_in(path)
                found.update(dict.fromkeys(each for each in inside if paths.is_file(each)))
        return list(found)[:_MOST_FOUND]

    def find(self, pattern: str) -> list[str]:
        """What a pattern leads to, sorted. Raises UnsafeError where that is outside."""
        pattern = pattern.replace("{name}", os.path.basename(self.directory))
        for name, value in self.fields.items():
            pattern = pattern.replace(f"{{{name}}}", value)
        return [self._inside(path) for path in _walk(self.directory, pattern.split("/"))]

    def _inside(self, path: str) -> str:
        normal = paths.normal(path)
        if not is_below(normal, paths.normal(self.top)) or not is_below(paths.real(normal), paths.real(self.top)):
            raise UnsafeError(
                f"what {self.declaration.path or self.declaration.id} declares leads out of its directory",
                path=path,
                hint="copy what lies there into the directory, or leave it out of the declaration",
            )
        return normal

    def _checkpoints(self, patterns: Iterable[str]) -> list[str]:
        """The prefixes and files of Keras that patterns mean; of a directory what `locate` takes it for."""
        found: dict[str, None] = {}
        for pattern in patterns:
            for path in self.find(pattern):
                if paths.is_directory(path):
                    try:
                        found[locate(path)] = None
                    except NotFoundError:  # none, or several without a state file
                        found.update((os.path.join(path, name), None) for name in prefixes_in(path))
                elif path.endswith(KERAS_ENDINGS):
                    found[path] = None
            head, _, last = pattern.rpartition("/")
            for directory in self.find(head) if head else [self.directory]:
                names = prefixes_in(directory) if paths.is_directory(directory) else []
                for name in names:
                    if fits(name, last):
                        found[self._inside(os.path.join(directory, name))] = None
        return list(found)[:_MOST_FOUND]

    def is_best(self, prefix: str) -> bool:
        """Whether a checkpoint lies where the best is declared to be."""
        return self._is_of(prefix, self._checkpoints(self.declaration.layout.best))

    def is_only_best(self, prefix: str) -> bool:
        """Whether it is the one checkpoint there: of several under a pattern, the best of a log is one's only."""
        found = self._checkpoints(self.declaration.layout.best)
        return len(found) == 1 and self._is_of(prefix, found)

    @staticmethod
    def _is_of(prefix: str, found: list[str]) -> bool:
        with_links = paths.absolute(prefix)
        return any(paths.absolute(each) == with_links for each in found)


def _declared(declaration: Declaration, path: str) -> DeclaredRun:
    top = declaration.directory
    assert top is not None
    top = paths.absolute(top)
    template = declaration.experiment
    if template is None:
        return DeclaredRun(declaration, top, top)
    from ckpt_tools.lineages.declared.grammar import fields_in  # it was read by it: loaded already

    depth = template.count("/") + 1
    parts = [] if path == top else paths.relative(path, top).split(os.sep)
    for end in range(depth, len(parts) + 1):
        fields = fields_in(template, "/".join(parts[end - depth : end]))
        directory = os.path.join(top, *parts[:end])
        if fields is not None and paths.is_directory(directory):
            return DeclaredRun(declaration, directory, top, fields)
    return DeclaredRun(declaration, top, top)


def _of_preset(declaration: Declaration, prefix: str) -> DeclaredRun:
    """The run begins where the layout fits the way to the checkpoint, else at the checkpoint's own directory."""
    here = paths.parent(paths.absolute(prefix))
    patterns = (*declaration.layout.best, *declaration.layout.latest)
    directory = here
    for _ in range(_LEVELS):
        way = paths.relative(prefix, directory).split(os.sep)
        if any(_fits(way, pattern.split("/")) for pattern in patterns):
            return DeclaredRun(declaration, directory, directory)
        directory = paths.parent(directory)
    return DeclaredRun(declaration, here, here)


def _fits(way: list[str], pattern: list[str]) -> bool:
    """Whether a way is what a pattern means, or lies in the directory that it means."""
    if not len(pattern) <= len(way) <= len(pattern) + 1:
        return False
    return all(itertools.starmap(fits, zip(way, pattern, strict=False)))


def _walk(directory: str, parts: list[str]) -> Iterator[str]:
    """The paths that a pattern means, part by part; a name with brackets means itself before it means a class."""
    waiting = [(directory, 0)]
    listed = 0
    while waiting:
        here, at = waiting.pop()
        if at == len(parts):
            yield here
            continue
        part = parts[at]
        plain = os.path.join(here, part)
        if part in ("", ".", "..") or paths.exists(plain):
            waiting.append((plain if part else here, at + 1))
            continue
        if listed == _MOST_LISTED or not any(letter in part for letter in "*?["):
            continue
        listed += 1
        try:
            names = paths.list_directory(here)
        except CkptError:
            continue
        fitting = [name for name in names if fnmatchcase(name, part) and name != DECLARATION]
        waiting += [(os.path.join(here, name), at + 1) for name in reversed(fitting)]


def _files_in(directory: str) -> list[str]:
    try:
        return [os.path.join(directory, name) for name in paths.list_directory(directory)[:_MOST_FOUND]]
    except CkptError:
        return []


def _number(prefix: str) -> int:
    found = _NUMBER.findall(os.path.basename(prefix))
    return int(found[-1]) if found else -1


def _one(found: list[str], what: str, directory: str) -> str | None:
    if len(found) < 2:
        return found[0] if found else None
    numbered = {_number(prefix): prefix for prefix in found}
    if len(numbered) == len(found):
        return numbered[max(numbered)]
    names = ", ".join(os.path.basename(prefix) for prefix in found[:5])
    raise NotFoundError(f"{len(found)} checkpoints may be the {what} one: {names}", path=directory, hint="pass one")
