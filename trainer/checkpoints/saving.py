"""Saving a line of checkpoints: each a new prefix, verified before anything points to it. Needs TensorFlow.

A checkpoint is a plain ``tf.train.Checkpoint`` whose keys are the canonical names. The order of a save is
what makes it safe at any moment of a crash: write into a directory of its own, fsync, read everything back, only then
move it under a fresh name, the index last; only then replace the ``checkpoint`` file, only then delete what this
trainer wrote before. TensorFlow writes an index in place: a save that is killed leaves a torn one, which nobody sees.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from ckpt_tools.errors import BusyError, CkptError, StorageError
from ckpt_tools.format.filenames import STATE_FILE, UNFINISHED_SAVE, index_name
from ckpt_tools.format.state import encode_state
from ckpt_tools.fs import durable, local
from ckpt_tools.lineages.comirec.trainer import SUFFIX
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import Experiment
from trainer.checkpoints.retention import data_files, doomed, retire, tidy

_NAME = "ckpt-"
_NUMBERED = re.compile(rf"{_NAME}(\d+)(?=\.|$)")
# Another program (a backfill, say) holds the directory for moments only; a run of hours can wait for it.
_PATIENCE_SECONDS = 60.0


class CheckpointLine:
    """The checkpoints ``ckpt-N`` of one directory, of which the newest ``keep`` of this trainer's are kept.

    With an ``experiment``, so is one that is better than all that its line of best ones holds.
    """

    def __init__(self, directory: str, *, keep: int = 1, experiment: Experiment | None = None) -> None:
        self.directory = directory
        self._keep = keep
        self._experiment = experiment

    def save(self, variables: Mapping[str, Any]) -> str:
        """Save scalars, arrays, strings and ``tf.Variable`` s by canonical name; returns the prefix.

        When it returns, the checkpoint is durable and has been read back. Raises StorageError (nothing that was
        there before is lost), BusyError.
        """
        durable.make_directory(self.directory)
        durable.sync_directory(local.directory_of(self.directory))
        with _held(self.directory):
            tidy(self.directory)
            prefix = self._write(variables, self._next_number())
            kept = sorted(filter(_number, self._prefixes()), key=_number, reverse=True)
            old = doomed(kept, self._keep, self._experiment)
            listed = [os.path.basename(each) for each in reversed(kept) if each not in old]
            state = os.path.join(self.directory, STATE_FILE)
            durable.write_atomic(state, encode_state(os.path.basename(prefix), listed))
            retire(self.directory, old)
        return prefix

    def tidy(self) -> None:
        """End what saves of this trainer that were killed left undone. Raises StorageError, BusyError.

        What has its name is whole: where the very first saves were killed before they could point to it, that is done.
        """
        if local.is_directory(self.directory, follow=True):
            with _held(self.directory):
                tidy(self.directory)
                named = sorted(filter(_number, self._prefixes()), key=_number)
                state = os.path.join(self.directory, STATE_FILE)
                if named and not local.is_there(state):
                    names = [os.path.basename(prefix) for prefix in named]
                    durable.write_atomic(state, encode_state(names[-1], names))

    def _prefixes(self) -> list[str]:
        return [os.path.join(self.directory, name) for name in prefixes_in(self.directory)]

    def _next_number(self) -> int:
        """One that no file has: data without an index may be somebody's, and must not be replaced."""
        return 1 + max(map(_number, local.list_directory(self.directory)), default=0)

    def _write(self, variables: Mapping[str, Any], number: int) -> str:
        """Write, read back, and give it its name; on failure nothing of it stays."""
        prefix = os.path.join(self.directory, f"{_NAME}{number}")
        unfinished = os.path.join(self.directory, UNFINISHED_SAVE)
        draft = os.path.join(unfinished, os.path.basename(prefix))
        try:
            durable.make_directory(unfinished)
            tree = _tree(variables)
            tree.save_counter.assign(number)
            tree.write(draft)
            files = [*data_files(draft), index_name(draft)]
            for path in files:
                durable.sync_file(path)
            _require_whole(draft, variables)
            # The index is what will prove whose the data is.
            durable.sync_directory(unfinished)
            for path in files:
                # Synced one by one: no index may outlive, in a power loss, the data that it needs.
                durable.rename(path, os.path.join(self.directory, os.path.basename(path)))
                for changed in (self.directory, unfinished):
                    durable.sync_directory(changed)
        except (tf.errors.OpError, OSError) as error:
            _remove(prefix)
            raise StorageError(
                f"cannot save the checkpoint: {error}",
                path=prefix,
                hint="what was saved before is untouched: make room or fix the permissions, then resume",
            ) from error
        except CkptError:
            _remove(prefix)
            raise
        finally:
            with contextlib.suppress(CkptError):  # the next save tries again
                tidy(self.directory)
        return prefix


def _require_whole(prefix: str, variables: Mapping[str, Any]) -> None:
    """Raise StorageError unless every variable can be read back from the files, checksums and all."""
    with open_checkpoint(prefix) as written:
        missing = {f"{name}{SUFFIX}" for name in variables} - written.tensors.keys()
        damage = next((found.message for found in written.verify() if found.severity == "damage"), None)
    if missing or damage:
        raise StorageError(
            f"the checkpoint does not read back: {damage or f'{min(missing)} is not in it'}",
            path=prefix,
            hint="what was saved before is untouched: check the disk, then resume",
        )


def _tree(variables: Mapping[str, Any]) -> tf.train.Checkpoint:
    """Nested objects whose attributes spell the canonical names: these become the keys."""
    root: dict[str, Any] = {}
    for name, value in variables.items():
        *parents, leaf = name.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value if isinstance(value, tf.Variable) else tf.Variable(value)

    def build(node: dict[str, Any]) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(
            **{key: build(value) if isinstance(value, dict) else value for key, value in node.items()}
        )

    return build(root)


@contextlib.contextmanager
def _held(directory: str) -> Iterator[None]:
    """The directory's lock, waited for."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(durable.locked(directory))
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


def _number(path: str) -> int:
    """N of a prefix or file ``ckpt-N``, 0 for any other name."""
    match = _NUMBERED.match(os.path.basename(path))
    return int(match[1]) if match else 0


def _remove(prefix: str) -> None:
    """Delete what there is of a checkpoint that never was one."""
    for path in (index_name(prefix), *data_files(prefix)):
        durable.remove(path)
