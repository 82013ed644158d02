"""A file that was opened to see what it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ckpt_tools.fs import paths
from ckpt_tools.readers.kinds import Kind
from ckpt_tools.readers.signatures import sniff


@dataclass(frozen=True)
class Content:
    """The open file, and what its bytes tell; whoever reads it goes on with this file, not with what has its name."""

    file: paths.File
    kind: Kind | None

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the file when the block does not end as it should."""
        try:
            yield
        except BaseException:
            self.file.close()
            raise


def look_into(path: str | os.PathLike[str]) -> Content:
    """Open a file and tell what it is. The file stays open.

    Raises:
        NotFoundError: there is no such file.
        UnsafeError: it is no file.
        StorageError: it cannot be read.
    """
    file = paths.open_file(path)
    try:
        return Content(file, sniff(file))
    except BaseException:
        file.close()
        raise
