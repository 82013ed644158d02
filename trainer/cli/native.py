"""Starting TensorFlow without its noise."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and show it only when the block fails.

    TensorFlow's libraries log there while they are loaded, before any setting of theirs takes effect.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            with open(saved, "wb", closefd=False) as stderr:
                shutil.copyfileobj(held, stderr)
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
