"""A line of checkpoints in one directory: each new, whole and durable before anything points to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import NotFoundError, StorageError
from ckpt_tools.format.filenames import INDEX, STATE_FILE, UNFINISHED_SAVE
from ckpt_tools.format.state import encode_state
from ckpt_tools.fs import durable, local


class Line:
    """Checkpoints ``NAME-1SUFFIX``, ``NAME-2SUFFIX`` and so on below ``directory``; ``suffix`` is empty for bundles."""

    def __init__(self, directory: str, name: str, suffix: str = "") -> None:
        self.directory = directory
        self._name = name
        self._suffix = suffix
        self._file = re.compile(rf"{re.escape(name)}-(?P<number>\d+)(?P<rest>\..*|)")

    def save(self, write: Callable[[str], object]) -> str:
        """Let ``write`` save under a path that nobody has; returns the path of the whole, durable checkpoint.

        For a bundle ``write`` takes a prefix. Raises StorageError when it cannot be saved or read back: what was saved
        before is untouched.
        """
        unfinished = os.path.join(self.directory, UNFINISHED_SAVE)
        durable.make_directory(self.directory)
        durable.sync_directory(os.path.dirname(os.path.abspath(self.directory)))
        self.tidy()
        durable.make_directory(unfinished)
        name = f"{self._name}-{self._next_number()}{self._suffix}"
        draft = os.path.join(unfinished, name)
        try:
            try:
                write(draft)
            except OSError as error:
                raise StorageError(f"cannot save: {error.strerror or error}", path=draft) from error
            files = sorted(os.listdir(unfinished), key=lambda file: file.endswith(INDEX))
            for file in files:
                durable.sync_file(os.path.join(unfinished, file))
            found = verify(draft)
            if not found.whole:
                worst = next(finding for finding in found.findings if finding.severity == "damage")
                raise StorageError(
                    f"what was saved does not read back: {worst.message}",
                    path=worst.path or draft,
                    hint="what was saved before is untouched: check the disk",
                )
            for file in files:  # the index last: before it has its name there is no checkpoint
                durable.rename(os.path.join(unfinished, file), os.path.join(self.directory, file))
                durable.sync_directory(self.directory)
        finally:
            self.tidy()
        return os.path.join(self.directory, name)

    def point_to(self, path: str) -> None:
        """Name a bundle in the directory's ``checkpoint`` file, for what restores the newest of a directory."""
        if not self._suffix:
            name = os.path.basename(path)
            durable.write_atomic(os.path.join(self.directory, STATE_FILE), encode_state(name, [name]))

    def retire(self, stay: Sequence[str]) -> None:
        """Remove this line's checkpoints but some; an index goes first, so that none names data that is gone."""
        kept = {os.path.basename(path) for path in stay}
        for file in self._files():
            match = self._file.fullmatch(file)
            assert match is not None
            if f"{self._name}-{match['number']}{self._suffix}" not in kept:
                durable.remove(os.path.join(self.directory, file))

    def tidy(self) -> None:
        """Remove what a save that was killed left."""
        unfinished = os.path.join(self.directory, UNFINISHED_SAVE)
        if local.is_directory(unfinished, follow=True):
            durable.remove_below(unfinished)

    def _files(self) -> list[str]:
        files = [name for name in local.list_directory(self.directory) if self._file.fullmatch(name)]
        return sorted(files, key=lambda file: not file.endswith(INDEX))

    def _next_number(self) -> int:
        """One that no file has, whoever wrote it."""
        try:
            matches = map(self._file.fullmatch, local.list_directory(self.directory))
        except NotFoundError:
            return 1
        return 1 + max((int(match["number"]) for match in matches if match), default=0)
