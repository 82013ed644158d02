"""What Python, NumPy, zip and other libraries say of a file that they were given instead."""

from __future__ import annotations

from ckpt_tools.analysis.messages import checks
from ckpt_tools.analysis.messages.known import INSPECT, VERIFY, Known

KNOWN = (
    Known(
        "pickle",
        (
            r"invalid load key",
            r"UnpicklingError",
            r"allow_pickle=False",
            r"Failed to interpret file .{1,300} as a pickle",
            r"Invalid magic number; corrupt file",
            r"Weights only load failed",
            r"unsupported pickle protocol",
            r"EOFError: Ran out of input",
        ),
        "the file was opened as a pickle and is none (or is empty), or is one and must not be opened",
        INSPECT,
        checks.opens,
    ),
    Known(
        "zip-unreadable",
        (
            r"File is not a zip file",
            r"BadZipFile",
            r"failed finding central directory",
            r"Bad magic number for (central directory|file header)",
            r"Bad CRC-32 for file",
        ),
        "a .keras, .npz or .pt file is a zip archive, and this one is none, is cut off, or is damaged: another kind "
        "of file "
        "under that name, a download that stopped, or a Git LFS pointer",
        VERIFY,
        checks.whole,
    ),
    Known(
        "binary-as-text",
        (
            r"'utf-?8' codec can't decode byte .{0,60}in position",
            r"'(gbk|cp1252|charmap|ascii)' codec can't decode byte",
        ),
        "a binary file was read as text: where it is said of a checkpoint, its .index, .data, .pb or .h5 was opened "
        "instead of being given to a function that restores it; else a path or a text in it has another encoding",
        INSPECT,
        checks.opens,
    ),
)
