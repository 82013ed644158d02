"""One way to open every format of checkpoint.

>>> with open_checkpoint("best_model/exp/keras_ckpt/ckpt-3") as checkpoint:  # doctest: +SKIP
...     checkpoint.read("model/item_embedding/.ATTRIBUTES/VARIABLE_VALUE")
"""

from __future__ import annotations

from ckpt_tools.readers.base import Checkpoint, Progress, TensorInfo
from ckpt_tools.readers.bundle import Bundle
from ckpt_tools.readers.location import locate
from ckpt_tools.readers.opening import open_checkpoint

__all__ = ["Bundle", "Checkpoint", "Progress", "TensorInfo", "locate", "open_checkpoint"]
