"""Saving a line of checkpoints: each a new prefix, verified before anything points to it. Needs TensorFlow.

A checkpoint is a plain ``tf.train.Checkpoint`` whose keys are the canonical names. The order of a save is
what makes it safe at any moment of a crash: write into a directory of its own, fsync, read everything back, only then
move it under a fresh name, the index last; only then replace the ``checkpoint`` file, only then delete what this
trainer wrote before. TensorFlow writes an index in place: a save that is killed leaves a torn one, which nobody sees.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from ckpt_tools import storage
from ckpt_tools.errors import BusyError, CkptError, StorageError
from ckpt_tools.format.state import FILE_NAME, encode_state
from ckpt_tools.ledger import history
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.trainer import ID as TRAINER
from ckpt_tools.lineages.trainer import SUFFIX
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.locate import prefixes_in

_NAME = "ckpt-"
# Where a checkpoint is written before it is whole. What is in it is nothing but the rest of a save that was killed.
_UNFINISHED = "unfinished_temp"
# Another program (a backfill, say) holds the directory for moments only; a run of hours can wait for it.
_PATIENCE_SECONDS = 60.0


class CheckpointLine:
    """The checkpoints ``ckpt-N`` of one directory, of which the newest ``keep`` of this trainer's are kept."""

    def __init__(self, directory: str, *, keep: int = 1) -> None:
        self.directory = directory
        self._keep = keep

    def save(self, variables: Mapping[str, Any]) -> str:
        """Save scalars, arrays, strings and ``tf.Variable`` s by canonical name; returns the prefix.

        When it returns, the checkpoint is durable and has been read back. Raises StorageError (nothing that was
        there before is lost), BusyError.
        """
        storage.make_directory(self.directory)
        storage.sync_directory(os.path.dirname(self.directory) or ".")
        with _held(self.directory):
            before = self._numbered()
            number = max(before, default=0) + 1
            prefix = os.path.join(self.directory, f"{_NAME}{number}")
            self._write(prefix, variables, number)
            kept = [prefix, *(before[n] for n in sorted(before, reverse=True))]
            ours = [old for old in kept[1:] if _is_ours(old)]
            doomed = set(ours[self._keep - 1 :])
            listed = [os.path.basename(old) for old in reversed(kept) if old not in doomed]
            state = os.path.join(self.directory, FILE_NAME)
            storage.write_atomic(state, encode_state(os.path.basename(prefix), listed))
            for old in doomed:
                _remove(old)
        return prefix

    def _numbered(self) -> dict[int, str]:
        """Prefix by N, for the names that are ``ckpt-N``."""
        found = {}
        for name in prefixes_in(self.directory):
            number = name.removeprefix(_NAME)
            if number != name and number.isdecimal():
                found[int(number)] = os.path.join(self.directory, name)
        return found

    def _write(self, prefix: str, variables: Mapping[str, Any], number: int) -> None:
        """Write, read back, and give it its name; on failure nothing of it stays."""
        unfinished = os.path.join(self.directory, _UNFINISHED)
        draft = os.path.join(unfinished, os.path.basename(prefix))
        try:
            _clear(unfinished)
            storage.make_directory(unfinished)
            tree = _tree(variables)
            tree.save_counter.assign(number)
            tree.write(draft)
            for path in _files(draft):
                storage.sync_file(path)
            _require_whole(draft, variables)
            for path in reversed(_files(draft)):
                storage.rename(path, os.path.join(self.directory, os.path.basename(path)))
            storage.sync_directory(self.directory)
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
                _clear(unfinished)


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
                stack.enter_context(storage.locked(directory))
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


def _is_ours(prefix: str) -> bool:
    """Whether this trainer wrote the checkpoint: what cannot be read, or was rewritten by ``ckpt``, it did not.

    A checkpoint that was migrated in place looks like one of ours, but its backup and ledger are somebody's way back.
    """
    try:
        if history(prefix):
            return False
        with open_checkpoint(prefix) as checkpoint:
            lineage = identify(checkpoint)
    except CkptError:
        return False
    return lineage is not None and lineage.id == TRAINER


def _files(prefix: str) -> list[str]:
    """The files of a checkpoint, its index first."""
    directory, name = os.path.split(prefix)
    names = storage.list_directory(directory or ".")
    index = [found for found in names if found == f"{name}.index"]
    data = [found for found in names if found.startswith(f"{name}.data-")]
    return [os.path.join(directory, found) for found in index + data]


def _remove(prefix: str) -> None:
    """Delete a checkpoint: the index first, so that what is left at any moment is not taken for one."""
    for path in _files(prefix):
        storage.remove(path)


def _clear(directory: str) -> None:
    """Remove a directory and all that is below it; fine when there is none."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            storage.remove(os.path.join(folder, name))
        storage.remove_directory(folder)
