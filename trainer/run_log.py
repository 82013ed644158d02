"""What a run tells about itself while it goes: the files in ``runs/EXPERIMENT``. Needs TensorFlow (for its events)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from types import TracebackType

import tensorflow as tf

from ckpt_tools import storage
from trainer.config import TrainConfig
from trainer.rows import Row

METRICS = "metrics.jsonl"
CONFIG = "config.json"


class RunLog:
    """Appends: a resumed run goes on in the same files. Opening it writes ``config.json``."""

    def __init__(self, directory: str, config: TrainConfig) -> None:
        storage.make_directory(directory)
        self._directory = directory
        text = json.dumps(asdict(config), indent=2, sort_keys=True) + "\n"
        storage.write_atomic(os.path.join(directory, CONFIG), text.encode())
        self._events = tf.summary.create_file_writer(directory)

    def add(self, row: Row) -> None:
        """One line of ``metrics.jsonl``, durably; the scalars of an evaluation as TensorBoard events."""
        storage.append_line(os.path.join(self._directory, METRICS), json.dumps(row.to_json()))
        if row.event == "stop":  # repeats the last evaluation
            return
        with self._events.as_default(step=row.step):
            if row.loss is not None:
                tf.summary.scalar("train/loss", row.loss)
            tf.summary.scalar("eval/recall", row.recall)
            tf.summary.scalar("eval/ndcg", row.ndcg)
            tf.summary.scalar("eval/hitrate", row.hitrate)
        self._events.flush()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()
