"""What a run tells about itself while it goes: the files in ``runs/EXPERIMENT``. Needs TensorFlow (for its events)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from types import TracebackType
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from ckpt_tools.format import json_text
from ckpt_tools.fs import durable, local
from trainer.config import TrainConfig
from trainer.monitoring.rows import LogRow

METRICS = "metrics.jsonl"
CONFIG = "config.json"
_MAX_BYTES = 1 << 30


class RunLog:
    """Appends: a resumed run goes on in the same files. Opening it writes ``config.json``, and the same for the page of
    TensorBoard where runs are compared by their hyper-parameters."""

    def __init__(self, directory: str, config: TrainConfig) -> None:
        durable.make_directory(directory)
        self._directory = directory
        text = json.dumps(asdict(config), indent=2, sort_keys=True) + "\n"
        durable.write_atomic(os.path.join(directory, CONFIG), text.encode())
        self._events = tf.summary.create_file_writer(directory)
        with self._events.as_default(step=0):
            hparams.hparams(asdict(config), trial_id=os.path.basename(os.path.abspath(directory)))

    def add(self, row: LogRow) -> None:
        """One line of ``metrics.jsonl``, durably; the scalars of an evaluation as TensorBoard events."""
        durable.append_line(os.path.join(self._directory, METRICS), json.dumps(row.to_json(), allow_nan=False))
        # A stop repeats the last evaluation; fresh weights are no part of the curve unless they count as a best, or
        # whoever reads the events would look for them in a checkpoint.
        if row.event == "stop" or (row.event == "start" and not row.best_metric):
            return
        with self._events.as_default(step=row.step):
            if row.loss is not None:
                tf.summary.scalar("train/loss", row.loss)
            tf.summary.scalar("eval/recall", row.recall)
            tf.summary.scalar("eval/ndcg", row.ndcg)
            tf.summary.scalar("eval/hitrate", row.hitrate)
        self._events.flush()

    def rewind(self, step: int, row: LogRow | None) -> None:
        """Make the log end where the state of ``step`` does: without rows of later steps, and with that state's own.

        A run that was killed may have logged what it then could not save, or saved what it did not come to log.
        """
        path = os.path.join(self._directory, METRICS)
        lines = local.read_file(path, limit=_MAX_BYTES).decode().splitlines() if local.is_there(path) else []
        rows = [found for found in map(_parsed, lines) if found is not None]
        kept = [found for found in rows if found["step"] <= step]
        if len(kept) < len(lines):
            text = "".join(json.dumps(found) + "\n" for found in kept)
            durable.write_atomic(path, text.encode())
        if row is not None and not any(found["step"] == step and found["event"] == row.event for found in kept):
            self.add(row)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()


def _parsed(line: str) -> dict[str, Any] | None:
    """A row of the log; None for a line that was cut off."""
    try:
        row = json_text.parse(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
