"""One way to open every format of checkpoint.

>>> with open_checkpoint("best_model/exp/keras_ckpt/ckpt-3") as checkpoint:  # doctest: +SKIP
...     checkpoint.read("model/item_embedding/.ATTRIBUTES/VARIABLE_VALUE")
"""

from __future__ import annotations

import os

from ckpt_tools.readers.base import Checkpoint, TensorInfo
from ckpt_tools.readers.bundle import Bundle
from ckpt_tools.readers.locate import locate

__all__ = ["Bundle", "Checkpoint", "TensorInfo", "locate", "open_checkpoint"]


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a prefix, an ``.index`` or ``.data-*`` file, or a directory with a ``checkpoint`` file.

    Raises:
        NotFoundError: there is no checkpoint; the message says what was found instead.
        CorruptError: the index or the ``checkpoint`` file is damaged.
        UnsupportedError: a format or version that this program does not read.
    """
    return Bundle(locate(path))
