"""Documents that a command writes beside its answer: where one may be written, and writing it."""

from __future__ import annotations

import os
import re
import shlex

from ckpt_tools.errors import NotFoundError, UnsafeError
from ckpt_tools.format.filenames import KERAS_ENDINGS, STATE_FILE, bundle_part
from ckpt_tools.fs import durable, local

# A line of ``sha256sum``, as a manifest has them.
_DIGEST_LINE = re.compile(rb"\\?[0-9a-f]{64} [ *]")


def write_text(path: str, text: str, *, errors: str = "backslashreplace") -> None:
    """Write a document into a file, replacing an older document. Raises what `require_document` raises."""
    require_document(path)
    durable.write_atomic(path, text.encode("utf-8", errors))


def require_document(path: str) -> None:
    """Raise unless a document may be written there: better before the work than behind it.

    Raises NotFoundError when there is no such directory, UnsafeError for what is no file (a device, a directory), for
    the name of a checkpoint, and where another kind of file would be replaced: a path may have come from the name of a
    file that somebody else made.
    """
    directory = local.directory_of(path)
    if not local.is_directory(directory, follow=True):
        raise NotFoundError("no such directory", path=directory, hint=f"mkdir -p {shlex.quote(directory)}")
    other = "write to another name"
    if local.is_link(path) or (local.is_there(path) and not local.is_file(path, follow=True)):
        raise UnsafeError("not a regular file: it would be replaced", path=path, hint=other)
    if _names_a_checkpoint(os.path.basename(path)):
        raise UnsafeError("a document is not written under the name of a checkpoint", path=path, hint=other)
    if local.is_file(path, follow=True) and _begins_otherwise(path):
        raise UnsafeError(
            "holds no document (XML, JSON, HTML or digests) that could be replaced", path=path, hint=other
        )


def _names_a_checkpoint(name: str) -> bool:
    endings = (*KERAS_ENDINGS, ".ckpt", ".safetensors", ".npz")
    return name == STATE_FILE or name.endswith(endings) or bundle_part(name) is not None


def _begins_otherwise(path: str) -> bool:
    with local.RandomAccessFile(path) as file:
        head = file.read(0, min(file.size, 80)).lstrip(b"\xef\xbb\xbf \t\r\n")
    return bool(head) and not head.startswith((b"<", b"{")) and not _DIGEST_LINE.match(head)
