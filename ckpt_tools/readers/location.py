"""From what a user types to what identifies a checkpoint.

    a bundle             the prefix: its name without ``.index``
    version 1            the file, or ``PREFIX-?????-of-N`` of a sharded one
    a SavedModel         its directory
    Keras                the ``.h5``, ``.keras`` or ``.weights.json`` (also ``.h5.index.json``) file
    safetensors          the file
    Orbax                the directory of a step, or of one of its items; of a run, its newest step

Nothing here globs: names with ``[`` or ``*`` in them are names.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError
from ckpt_tools.format.filenames import (
    INDEX,
    KERAS_ENDINGS,
    STATE_FILE,
    BundlePart,
    bundle_part,
    index_name,
    keras_map_beside,
    keras_map_of,
    v1_any_set,
    v1_set,
)
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import is_no_answer
from ckpt_tools.fs.nearby import did_you_mean
from ckpt_tools.readers.content import Content, look_into
from ckpt_tools.readers.kinds import PASS_PREFIX, Kind
from ckpt_tools.readers.saved_model import has_variables, is_saved_model
from ckpt_tools.readers.state_files import inside, is_state, other_states, read_state
from ckpt_tools.readers.v1_names import shard_sets_in, shards_of

_MOST_FILES = 256
_MOST_BELOW = 8
_LIKE_A_CHECKPOINT = (*KERAS_ENDINGS, ".ckpt")
# Damage, not another kind of file.
_LOST = ("empty", "zeros")


@dataclass(frozen=True)
class Located:
    """What a path means: ``path`` identifies the checkpoint, as `locate` returns it.

    ``content`` is the file of that name where it had to be opened to tell that it is one: a reader goes on with it.
    """

    path: str
    content: Content | None = None

    def close(self) -> None:
        """Close the file again that nobody will read."""
        if self.content is not None:
            self.content.file.close()


def locate(path: str | os.PathLike[str]) -> str:
    """What identifies the checkpoint that a path means; the same for what it returns. A state file, whatever its name,
    means the checkpoint that it names.

    Raises:
        NotFoundError: there is no checkpoint; the message says what there is instead.
        CorruptError: the state file is damaged.
        UnsafeError: the state file names a place outside its directory.
    """
    return _path_of(find(path))


def find(path: str | os.PathLike[str]) -> Located:
    """The same as `locate`, with the file that was opened on the way. Raises what `locate` raises."""
    path = os.fspath(path)
    if paths.is_lone(path):
        return Located(path, _readable(path))
    if paths.is_directory(path) and not paths.has_file(index_name(path)):
        return _in_directory(path)
    directory, name = os.path.split(path)
    if name == STATE_FILE and paths.has_file(path) and not paths.has_file(index_name(path)):
        return find_latest(directory or ".")
    if name.startswith("saved_model.pb") and paths.has_file(path):
        return _in_directory(directory or ".")
    part = bundle_part(path)
    if part is not None and paths.has_file(path):
        return _of_part(path, part)
    return _existing(path)


def _path_of(found: Located) -> str:
    found.close()
    return found.path


def _in_directory(directory: str) -> Located:
    if not paths.has_file(os.path.join(directory, STATE_FILE)) and is_saved_model(directory):
        if has_variables(directory):
            return Located(directory)
        raise NotFoundError(
            "a SavedModel without variables (no variables/variables.index)",
            path=directory,
            hint="get the variables/ directory of this SavedModel, from where it was exported",
        )
    return find_latest(directory)


def _of_part(path: str, part: BundlePart) -> Located:
    """The checkpoint that an ``.index``, ``.data-*`` or ``.meta`` file belongs to."""
    prefix = part.prefix or os.path.join(os.curdir, "")
    try:
        return _existing(prefix)
    except NotFoundError as error:
        if part.part == "data" and "another name" not in error.message:
            raise NotFoundError(
                "a data file without its index: the names, types and places of its tensors are not in it",
                path=path,
                hint=f"get {os.path.basename(index_name(prefix))} from where it was made, then pass {prefix}",
            ) from error
        if part.part == "meta":
            _refuse(path)
        raise


def _existing(prefix: str, *, named_by_state: bool = False) -> Located:
    """The checkpoint of this name, which may also be that of a state file; but a state file names no other one."""
    if paths.has_file(index_name(prefix)):
        return Located(prefix)
    directory, name = os.path.split(prefix)
    pattern = v1_set(prefix)
    if pattern is not None and shards_of(pattern):
        return Located(pattern)
    if paths.has_file(prefix):
        return _single_file(prefix, directory or ".", named_by_state=named_by_state)
    sets = shard_sets_in(directory or ".", v1_any_set(name) or name)
    if len(sets) == 1:
        return Located(os.path.join(directory, sets[0]))
    whole_map = keras_map_beside(prefix)
    if whole_map is not None and paths.has_file(whole_map):
        return Located(whole_map)
    _refuse_renamed(prefix, directory or ".")
    there = sets or prefixes_in(directory or ".") or files_in(directory or ".")
    hint = f"there is: {', '.join(os.path.join(directory, name) for name in there[:4])}" if there else None
    hint = did_you_mean(prefix) or hint or _above(directory)
    why = "its .index is a directory" if paths.is_directory(index_name(prefix)) else "no .index file"
    raise NotFoundError(f"no checkpoint with this prefix ({why})", path=prefix, hint=hint)


def _single_file(path: str, directory: str, *, named_by_state: bool) -> Located:
    """A file that is a checkpoint as a whole, or names one."""
    content = look_into(path)
    if not named_by_state and is_state(content):
        return _named_by(directory, os.path.basename(path), content.file)
    content = _readable(path, content)
    _refuse_index(content, directory)
    return Located(path, content)


def _refuse_index(content: Content, directory: str) -> None:
    """Raise when an open file is the index of a bundle under another name; it is closed then."""
    if content.kind is None or content.kind.id != "table":
        return
    from ckpt_tools.readers.renamed import is_index

    with content.closed_on_error():
        if is_index(content.file):
            _refuse_renamed(content.file.path, directory)


def _above(directory: str) -> str | None:
    """How to see what there is, in the nearest directory that is there."""
    if paths.is_url(directory):
        return None
    here = os.path.abspath(directory or ".")
    while not os.path.isdir(here):  # noqa: TID251 - only shown
        here = os.path.dirname(here)
    shown = os.path.relpath(here) if not os.path.isabs(directory) else here
    return f"ckpt audit {shlex.quote(shown)}"


def what_is(content: Content) -> Kind | None:
    """What a file is; None when that is not known. Of an archive, what is in it tells.

    Raises CorruptError for an archive whose list of members cannot be read.
    """
    kind = content.kind
    if kind is not None and kind.id == "zip":
        from ckpt_tools.readers.archives import zip_stranger  # other formats need no archives

        return zip_stranger(content.file) or kind
    if kind is None:
        from ckpt_tools.readers.strangers import shard_stranger

        directory, name = os.path.split(content.file.path)
        return shard_stranger(name, lambda other: _sniffed(os.path.join(directory, other)))
    return kind


def _readable(path: str, content: Content | None = None) -> Content:
    """The open file of a path. Raises unless it is of a kind that a reader opens."""
    content = content or look_into(path)
    with content.closed_on_error():
        kind = what_is(content)
        if kind is None or not kind.readable:
            raise_stranger(path, kind)
    return content


def _refuse(path: str) -> None:
    """Raise unless the file is of a kind that a reader opens."""
    _readable(path).file.close()


def _refuse_renamed(path: str, directory: str, *, called_so: bool = False) -> None:
    """Raise when it is an index that is missed, and a file here is one under another name.

    ``called_so``: only files that have the word in their names are opened.
    """
    from ckpt_tools.readers.renamed import renamed_index

    found = renamed_index(directory, called_so=called_so)
    if found is not None:
        raise NotFoundError(
            f"no checkpoint with this prefix: {found.name!r} is an index under another name",
            path=path,
            hint=found.command,
        )


def raise_stranger(path: str, kind: Kind | None) -> NoReturn:
    """Say what a file is that holds no checkpoint. Raises NotFoundError, of a lost file CorruptError."""
    if kind is None:
        raise NotFoundError("this file is not a TensorFlow checkpoint", path=path, hint=PASS_PREFIX)
    if kind.id in _LOST:
        raise CorruptError(f"this is {kind.sentence}", path=path, offset=0, hint=kind.hint)
    raise NotFoundError(f"this is {kind.sentence}", path=path, hint=kind.hint)


def latest_in(directory: str) -> str:
    """The prefix that a directory's ``checkpoint`` file names as its newest; else the only one that is there,
    or the newest step of Orbax.

    Raises what `locate` raises.
    """
    return _path_of(find_latest(directory))


def find_latest(directory: str) -> Located:
    """The same as `latest_in`, with the file that was opened on the way.

    Raises NotFoundError where there is none, or several to choose from, and what `locate` raises.
    """
    if paths.has_file(os.path.join(directory, STATE_FILE)):
        return _named_by(directory, STATE_FILE)
    there = {name: Located(os.path.join(directory, name)) for name in prefixes_in(directory)}
    if not there:
        _refuse_renamed(directory, directory, called_so=True)
        there = _single_files(directory)
        for each in there.values():
            if each.content is not None:
                _refuse_index(each.content, directory)
    if len(there) == 1:
        return next(iter(there.values()))
    if there:
        choice = [*other_states(directory), *there]
        raise NotFoundError(
            f"no 'checkpoint' file, and {len(there)} checkpoints to choose from",
            path=directory,
            hint=f"pass one of: {', '.join(os.path.join(directory, name) for name in choice[:8])}",
        )
    # An empty list may also mean that it could not be listed: then this raises.
    names = paths.list_directory(directory)
    from ckpt_tools.readers.orbax_places import place_of

    step = place_of(directory)
    if step is not None:
        return Located(step)
    kind = _stranger_in(directory, names)
    if kind is not None:
        raise_stranger(directory, kind)
    for name in names[:_MOST_FILES]:
        path = os.path.join(directory, name)
        if name.endswith(_LIKE_A_CHECKPOINT) and paths.is_file(path):
            _refuse(path)  # what it is instead
    below = [os.path.join(directory, name) for name in names[:_MOST_FILES]]
    below = [path for path in below if paths.is_directory(path)]
    hint = f"ckpt audit {shlex.quote(directory)}" if below else None
    inner = [os.path.join(path, name) for path in below[:_MOST_BELOW] for name in prefixes_in(path)]
    if inner:
        hint = f"there is: {', '.join(inner[:4])}"
    raise NotFoundError("no checkpoint in this directory", path=directory, hint=hint)


def _stranger_in(directory: str, names: Collection[str]) -> Kind | None:
    """What a directory without a checkpoint is instead, where its files tell."""
    from ckpt_tools.readers.strangers import directory_stranger

    return directory_stranger(names, lambda name: _sniffed(os.path.join(directory, name)))


def _sniffed(path: str) -> Kind | None:
    try:
        content = look_into(path)
    except CkptError:
        return None
    content.file.close()
    return content.kind


def named_by(directory: str, name: str) -> str:
    """The checkpoint that a state file names as its newest. Raises what `locate` raises."""
    return _path_of(_named_by(directory, name))


def _named_by(directory: str, name: str, file: paths.File | None = None) -> Located:
    """The checkpoint that a state file names as its newest; the error for a damaged one says what to pass instead."""
    try:
        state = read_state(directory, name, file)
    except CorruptError as error:
        there = prefixes_in(directory)
        # Flax gives its weights this name.
        kind = None if there else _stranger_in(directory, [STATE_FILE])
        if kind is not None:
            raise_stranger(os.path.join(directory, STATE_FILE), kind)
        error.hint = f"pass a prefix instead: {', '.join(os.path.join(directory, n) for n in there)}" if there else None
        raise
    prefix = inside(directory, state.latest, name)
    try:
        return _existing(prefix, named_by_state=True)
    except NotFoundError as error:
        error.hint = error.hint or f"ckpt audit {shlex.quote(directory)}"
        if name != STATE_FILE:
            error.message = f"this is a 'checkpoint' file, and it names {state.latest}: {error.message}"
        raise


def prefixes_in(directory: str) -> list[str]:
    """The names of all prefixes with an index in a directory, sorted; empty where none may be listed.

    Raises StorageError when the system of this machine does not say.
    """
    try:
        return [name.removesuffix(INDEX) for name in paths.list_files(directory, INDEX)]
    except CkptError as error:
        if is_no_answer(error):
            raise
        return []


def files_in(directory: str) -> list[str]:
    """The checkpoints of a directory that are no bundles, by the content of its files: sets of shards, single files.

    Shards of Keras weights are meant by their map.
    """
    found = _single_files(directory)
    for each in found.values():
        each.close()
    return list(found)


def _single_files(directory: str) -> dict[str, Located]:
    """The same; of a single one its file is open."""
    try:
        names = paths.list_directory(directory)[:_MOST_FILES]
    except CkptError as error:
        if is_no_answer(error):
            raise
        return {}
    found: dict[str, Located] = {}
    for name in names:
        path = os.path.join(directory, name)
        try:
            content = _readable(path)
        except CkptError as error:
            if is_no_answer(error):
                raise
            continue
        known = v1_set(name)
        if found or known:
            content.file.close()  # a directory may hold more of them than may be open
        if known:
            found[known] = Located(os.path.join(directory, known))
        else:
            found[name] = Located(path, None if found else content)
    chosen = {name: each for name, each in found.items() if keras_map_of(name) not in found}
    if len(chosen) != 1:
        for each in chosen.values():
            each.close()
    return chosen
