"""Starting TensorFlow without its noise."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from ckpt_tools.errors import UnsupportedError
from trainer.extras import INSTALL

if TYPE_CHECKING:
    from trainer.training.loop import Outcome


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


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Without TensorFlow's noise. Raises UnsupportedError when it cannot be imported although it is installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with held_stderr():
            yield
    except ImportError as error:
        raise UnsupportedError(f"TensorFlow is installed, but cannot be imported: {error}", hint=INSTALL) from error


def serving_module() -> ModuleType:
    """``trainer.evaluation.serving``, with TensorFlow, which takes seconds."""
    with _importing():
        from trainer.evaluation import serving
    return serving


def training_loop() -> Callable[..., Outcome]:
    """``trainer.training.loop.train``, with TensorFlow, which takes seconds."""
    with _importing():
        from trainer.training.loop import train
    logging.getLogger("tensorflow").addFilter(_is_news)
    return train


def _is_news(record: logging.LogRecord) -> bool:
    """Each run of a sweep traces its own functions once; TensorFlow takes them for one that is traced each time."""
    return "triggered tf.function retracing" not in record.getMessage()
