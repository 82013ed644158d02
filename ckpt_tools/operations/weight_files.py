"""New checkpoints of some of an old one's tensors: what `slim` and `average` have in common.

A tensor bundle is planned and made as every change of one (`ckpt_tools.transactions`). A Keras file is copied object by
object, attributes and all, without what is left out; of a ``.keras`` archive only the weights are another member. In
place that copy takes the file's name (`ckpt_tools.transactions.single_file`).
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from ckpt_tools import transactions
from ckpt_tools.errors import CorruptError, UnsupportedError, UsageError
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.filenames import KERAS_ENDINGS, STATE_FILE, bundle_part, index_name, temporary_of
from ckpt_tools.format.object_graph import pruned
from ckpt_tools.format.seekable import Seekable
from ckpt_tools.fs import durable, local, paths
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.transactions import FilePlan, Plan, Value

if TYPE_CHECKING:
    import h5py
    import numpy as np

KERAS = ("keras-h5", "keras-weights-h5", "keras-zip")


def require_writable_format(checkpoint: Checkpoint) -> None:
    """Raises UnsupportedError for a format that is read only."""
    if checkpoint.format == "saved-model":
        raise UnsupportedError(
            "the program of a SavedModel names its variables: it would not load without some of them",
            path=checkpoint.prefix,
            hint="pass a checkpoint, or save the model without its optimizer",
        )
    if paths.is_url(checkpoint.prefix) or not (isinstance(checkpoint, Bundle) or checkpoint.format in KERAS):
        raise UnsupportedError(
            f"a {checkpoint.format} checkpoint is not written, or not at that place", path=checkpoint.prefix
        )
    if checkpoint.format in KERAS and checkpoint.prefix.endswith(".json"):
        raise UnsupportedError("weights in several files with a map are not written", path=checkpoint.prefix)


def bundle_target(out: str, prefix: str, *, dry_run: bool = False) -> str:
    """The prefix that is written: ``out``, or the name of the old one in the directory ``out``.

    A change there that was killed is brought to an end first, unless in a ``dry_run``: it may be the same one.

    Raises UsageError when there is such a checkpoint already, unless it lies alone in its directory without the file
    that names it: what makes one there may have been killed, and is asked again by `make_bundle`.
    """
    inside = out.endswith(os.sep) or local.is_directory(out, follow=True)
    target = os.path.join(out, os.path.basename(prefix)) if inside else out
    if not dry_run:
        transactions.recover(target)
    itself = paths.identity(index_name(target)) == paths.identity(index_name(prefix))
    if local.is_there(index_name(target)) and (itself or not _lies_alone(target)):
        raise _there_already(target)
    return target


def _there_already(target: str) -> UsageError:
    return UsageError("there is such a checkpoint already", path=target, hint="name a new one")


def _lies_alone(prefix: str) -> bool:
    """Whether a directory holds files of this bundle, and at most the beginning of the file that names it."""
    directory, name = os.path.split(prefix)
    names = (each for each in local.list_directory(directory or os.curdir) if temporary_of(each) != STATE_FILE)
    return all((part := bundle_part(each)) is not None and part.prefix == name for each in names)


def plan_bundle(
    bundle: Bundle,
    keep: Collection[str],
    values: Mapping[str, Value],
    lost: Collection[str],
    *,
    reason: str,
    evidence: Mapping[str, Any],
    target: str | None,
) -> Plan:
    """Keep some tensors, write others, and prune the object graph of those that are lost."""
    values = dict(values)
    if bundle.graph is not None:
        graph = pruned(bundle.graph_bytes, lost)
        values[OBJECT_GRAPH_KEY] = Value.of_string(graph, "without what was left out")
    return transactions.plan_part(bundle, keep, values, reason=reason, evidence=evidence, target=target)


def make_bundle(plan: Plan) -> str | None:
    """Make a planned checkpoint; the backup's directory for one in place.

    In a directory of its own it gets a state file too; beside others it is recorded, and can be undone. What the same
    command left there when it was killed is made anew. Raises UsageError when another checkpoint is there.
    """
    directory = local.directory_of(plan.target)
    if plan.in_place:
        return transactions.apply(plan).backup
    empty = not local.is_there(directory) or not local.list_directory(directory)
    if empty or transactions.is_interrupted(plan):
        transactions.apply_to(plan, plan.target)
    elif local.is_there(index_name(plan.target)):
        raise _there_already(plan.target)
    else:
        transactions.apply(plan)
    return None


def require_new_file(checkpoint: Checkpoint, out: str) -> None:
    """Raises UsageError for a file that is there already, or whose name ends otherwise than that of a Keras file."""
    ending = next(end for end in (".keras", ".weights.h5", "") if checkpoint.prefix.endswith(end))
    if not out.endswith(ending or KERAS_ENDINGS):
        raise UsageError(f"{out}: the name must end in {ending or '.h5'}, as that of the file it is made from")
    if local.is_there(out):
        raise UsageError("there is such a file already", path=out, hint="name a new one")


def write_keras(
    checkpoint: Checkpoint, out: str, keep: Collection[str], values: Mapping[str, np.ndarray] | None = None
) -> None:
    """Copy a Keras file to a new one with only some of its tensors, of which some may get other values.

    The new file is read back: what was kept is bit-equal, or CorruptError is raised and there is no file. Raises
    UsageError for a file that is there already, or a name with another ending.
    """
    given = values or {}
    require_new_file(checkpoint, out)
    try:
        with durable.created(out) as file:
            _copy(checkpoint.prefix, checkpoint.format, keep, given, file)
        with open_checkpoint(out) as written:
            _require_equal(checkpoint, written, keep, given)
    except CorruptError:
        durable.remove(out)
        raise


def plan_keras(
    checkpoint: Checkpoint,
    keep: Collection[str],
    source: local.Fingerprint,
    *,
    reason: str,
    evidence: Mapping[str, Any],
) -> FilePlan:
    """Plan to put a copy of a Keras file without some of its tensors in its place.

    ``source`` is the file as it was before it was opened.
    """
    path, keep = checkpoint.prefix, frozenset(keep)
    write = partial(_copy, path, checkpoint.format, keep, {})
    nbytes = sum(checkpoint.tensors[key].nbytes for key in keep)
    return FilePlan(path, reason, evidence, (), source, write, partial(_check, path, keep), nbytes)


def _copy(path: str, kind: str, keep: Collection[str], given: Mapping[str, np.ndarray], file: IO[bytes]) -> None:
    if kind == "keras-zip":
        _write_archive(path, file, keep, given)
        return
    with local.RandomAccessFile(path) as source:
        _copy_hdf5(_Stream(source), file, keep, given)


def _check(path: str, keep: Collection[str], new: str) -> None:
    with open_checkpoint(path) as before, open_checkpoint(new) as after:
        _require_equal(before, after, keep, {})


def _require_equal(old: Checkpoint, new: Checkpoint, keep: Collection[str], given: Mapping[str, np.ndarray]) -> None:
    if set(new.tensors) != set(keep):
        raise CorruptError("reads back with other tensors", path=new.prefix)
    for name in keep:
        same = (
            (new.read(name).tobytes() == given[name].tobytes())
            if name in given
            else old.digest(name) == new.digest(name)
        )
        if not same:
            raise CorruptError("reads back differently", path=new.prefix, key=name)


def _write_archive(path: str, file: IO[bytes], keep: Collection[str], given: Mapping[str, np.ndarray]) -> None:
    from ckpt_tools.readers.archives import WEIGHTS
    from ckpt_tools.readers.keras_zip import Archive

    archive = Archive(path)
    try:
        if WEIGHTS not in archive.members:
            raise UnsupportedError("weights in several files with a map are not written", path=path)
        with zipfile.ZipFile(file, "w") as target:
            for name, member in archive.members.items():
                content = b"".join(archive.unpacked(member))
                if name == WEIGHTS:
                    weights = io.BytesIO()
                    _copy_hdf5(io.BytesIO(content), weights, keep, given)
                    content = weights.getvalue()
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o600 << 16
                target.writestr(info, content)
    finally:
        archive.close()


class _Stream(Seekable):
    """A file that the HDF5 library may only read."""

    def __init__(self, file: local.RandomAccessFile) -> None:
        self._file = file

    def _end(self) -> int:
        return self._file.size

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self._file.size - self._position))
        buffer[:size] = self._file.read(self._position, size)
        self._position += size
        return size


def _copy_hdf5(source: Any, target: IO[bytes], keep: Collection[str], given: Mapping[str, np.ndarray]) -> None:
    """Copy groups, attributes and datasets; a group that loses all of its datasets goes too."""
    import h5py

    kept_groups = {name[:at] for name in keep for at, letter in enumerate(name) if letter == "/"}
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        lost_groups: set[str] = set()
        old.visititems(lambda name, item: _note_lost(name, item, keep, lost_groups, h5py.Dataset))

        def copy(group: h5py.Group, into: h5py.Group, path: str) -> None:
            _copy_attributes(group, into)
            for name in group:
                item, where = group[name], f"{path}{name}"
                if isinstance(item, h5py.Group):
                    if where in kept_groups or where not in lost_groups:
                        copy(item, into.create_group(name), f"{where}/")
                elif where in given:
                    value = given[where]
                    opaque = value.dtype.kind == "V" or value.dtype.name == "bfloat16"
                    into.create_dataset(name, data=value.view("V2") if opaque else value)
                    _copy_attributes(item, into[name])
                elif where in keep:
                    group.copy(item, into, name)

        copy(old, new, "")


def _note_lost(name: str, item: Any, keep: Collection[str], lost: set[str], dataset: Callable[..., Any]) -> None:
    """The groups above a dataset that is left out."""
    if isinstance(item, dataset) and name not in keep:  # type: ignore[arg-type]
        lost.update(name[:at] for at, letter in enumerate(name) if letter == "/")


def _copy_attributes(source: Any, target: Any) -> None:
    for name in source.attrs:
        attribute = source.attrs.get_id(name)
        target.attrs.create(name, _as_stored(source.attrs[name]), shape=attribute.shape, dtype=attribute.dtype)


def _as_stored(value: Any) -> Any:
    """Strings as the bytes that they are in the file: they may hold what their declared character set does not."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if hasattr(value, "flat") and value.dtype.kind == "O" and all(isinstance(each, str) for each in value.flat):
        import numpy as np

        return np.array([_as_stored(each) for each in value.flat], object).reshape(value.shape)
    return value
