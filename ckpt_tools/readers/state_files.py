"""The state files of a directory: ``checkpoint``, and those that savers write under other names.

What they name is a path of the machine where the run was made, which may have been another one, with another system.
One rule says which checkpoint here is meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ckpt_tools.errors import CkptError, CorruptError, StorageError, UnsafeError
from ckpt_tools.format.filenames import KERAS_ENDINGS, STATE_FILE, bundle_part, index_name, is_unfinished, v1_set
from ckpt_tools.format.state import MAX_BYTES, State, decode_state, remains_of_state
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import is_no_answer
from ckpt_tools.readers.content import Content, look_into
from ckpt_tools.readers.v1_names import shards_of

# Of Windows, or of a scheme such as ``dbfs:/``.
_FOREIGN = re.compile(r"[A-Za-z]:|\\|//|[A-Za-z][\w+.-]*:[\\/]")
_SEPARATORS = re.compile(r"[\\/]")
# Files that are never a state file, by their names: they need not be opened.
_OTHERS = (*KERAS_ENDINGS, ".pb", ".json", ".npz", ".npy", ".zip", ".gz", ".png", ".csv", ".py", ".log")
# ``checkpoint`` itself, as a browser or a mail program calls what it saves; and the copies that people keep of it.
_DOWNLOADED = re.compile(rf"{STATE_FILE}(\s?\(\d+\)|\.(txt|download))+")
_SAVED_AGAIN = re.compile(rf"{_DOWNLOADED.pattern}|{STATE_FILE}([._-]?(bak|old|orig|backup|copy|save)\d*|~)+")
_MOST_FILES = 256
_HEAD_BYTES = 4096
_MARK = b"model_checkpoint_path"


def read_state(directory: str, name: str = STATE_FILE, file: paths.File | None = None) -> State:
    """A state file of the directory; ``file`` is that file where it is open, and is closed.

    Raises CorruptError, UnsafeError for what is too large or no file.
    """
    path = os.path.join(directory, name)
    try:
        with paths.open_file(path) if file is None else file as opened:
            return decode_state(paths.read_all(opened, limit=MAX_BYTES))
    except CorruptError as error:
        error.path = path
        raise


def is_state_file(path: str) -> bool:
    """Whether a file, whatever its name, is a state file by what it holds: a whole one, or the beginning of one."""
    try:
        content = look_into(path)
    except CkptError:
        return False
    with content.file:
        return is_state(content)


def is_state(content: Content) -> bool:
    """The same of a file that is open."""
    if content.kind is not None:
        return content.kind.id == "state"
    if content.file.size > MAX_BYTES:
        return False
    try:
        data = content.file.read(0, content.file.size)
        if _MARK in data:
            decode_state(data)
            return True
    except CkptError as error:
        if is_no_answer(error):
            raise
    return False


def other_states(directory: str) -> dict[str, State]:
    """The state files of other names, as ``latest_filename`` of a saver gives them, by name; a damaged one too, with
    what can be read of it. Found by what they hold. Copies of ``checkpoint`` itself do not count.

    Raises StorageError when the system does not say what one holds: it may name the best. A file that its owner lets
    nobody read is left out, unless it is called so."""
    return {name: state for name, state in _states(directory) if not _SAVED_AGAIN.fullmatch(name)}


def copy_of_state(directory: str) -> tuple[str, State] | None:
    """The file ``checkpoint`` under the name that a browser gave it, and what it holds; None without one."""
    return next(((name, state) for name, state in _states(directory) if _DOWNLOADED.fullmatch(name)), None)


def _states(directory: str) -> Iterator[tuple[str, State]]:
    for name in _candidates(directory):
        try:
            with paths.open_file(os.path.join(directory, name)) as file:
                if _MARK not in file.read(0, min(file.size, _HEAD_BYTES)):
                    continue
                state = remains_of_state(file.read(0, file.size))
        except StorageError as error:
            if is_no_answer(error) or "checkpoint" in name:
                raise
            continue
        except CkptError:
            continue
        if state.latest or state.all:
            yield name, state


def _candidates(directory: str) -> list[str]:
    """The names of files that may be state files, those called so first."""
    try:
        found = paths.scan(directory)
    except CkptError as error:
        if is_no_answer(error):
            raise
        return []
    names = [
        name
        for name, status in found.items()
        if not status.directory
        and name != STATE_FILE
        and len(_MARK) < status.fingerprint.size <= MAX_BYTES
        and not _is_another(name)
        # Each file of a store is a journey: only those are opened there that are called so.
        and ("checkpoint" in name or not paths.is_url(directory))
    ]
    return sorted(names, key=lambda name: "checkpoint" not in name)[:_MOST_FILES]


def _is_another(name: str) -> bool:
    other = name.endswith(_OTHERS) or ".tfevents." in name
    return other or bundle_part(name) is not None or is_unfinished(name)


def inside(directory: str, stored: str, state: str = STATE_FILE) -> str:
    """The prefix that a path in a state file means, never outside the file's directory.

    An absolute path, of this system or of Windows, or a URL, is usually that of the machine where the run was made:
    the checkpoint of the same name here is meant. TensorFlow would follow it, and silently read another directory
    when one is there. A relative path may have been written by Windows, or be relative to where the program ran.

    Raises UnsafeError for a relative path that leads out of the directory.
    """
    options = list(dict.fromkeys(_options(stored)))
    candidates = [_joined(directory, option, stored, state) for option in options]
    there = (path for path in candidates[:-1] if _is_there(path))
    mere = _is_foreign(stored) or _is_there(candidates[-1])
    found = _of_file(next(there, candidates[-1] if mere else candidates[0]))
    if _is_there(found):
        return found
    # A separator behind it means the checkpoint without a name; where there is none, the one before it is meant.
    name = _last(stored.rstrip("\\/"))
    if name in ("", os.curdir, os.pardir):
        return found
    named = _joined(directory, name, stored, state)
    return named if _is_there(named) else found


def _of_file(path: str) -> str:
    """The prefix, where somebody wrote the name of one of its files into the state file."""
    part = bundle_part(path)
    if part is None or paths.is_file(index_name(path)) or not paths.is_file(index_name(part.prefix)):
        return path
    return part.prefix


def _is_foreign(stored: str) -> bool:
    """Whether it is no relative path of this system."""
    return paths.is_absolute(stored) or "\\" in stored or _FOREIGN.match(stored) is not None


def _options(stored: str) -> Iterator[str]:
    """The paths, relative to the directory, that may be meant; the last is the mere name."""
    if paths.is_absolute(stored):
        yield os.path.basename(stored)
    else:
        yield stored
        if not _FOREIGN.match(stored):
            yield stored.replace("\\", "/")
    yield _last(stored)


def _last(stored: str) -> str:
    """The part of a path of any system behind the last separator."""
    return re.sub(r"^[A-Za-z]:", "", _SEPARATORS.split(stored)[-1])


def _joined(directory: str, option: str, stored: str, state: str) -> str:
    if option in ("", os.curdir):
        return os.path.join(directory, "")  # the checkpoint without a name: ``DIRECTORY/.index``
    path = os.path.join(directory, option) if os.sep not in option else paths.normal(os.path.join(directory, option))
    if option.endswith(os.sep):
        path = os.path.join(path, "")
    if _leaves(path, directory) or _leaves(paths.real(os.path.dirname(path)), paths.real(directory)):
        raise UnsafeError(
            f"names {stored!r}, a place outside its directory",
            path=os.path.join(directory, state),
            hint="pass the checkpoint that you mean by its own path",
        )
    return path


def _leaves(path: str, directory: str) -> bool:
    return os.path.relpath(path, directory).split(os.sep)[0] == os.pardir


def _is_there(prefix: str) -> bool:
    """Whether a checkpoint has this prefix: a bundle, one file, or a set of shards."""
    if paths.is_file(index_name(prefix)) or paths.is_file(prefix):
        return True
    pattern = v1_set(prefix)
    return pattern is not None and shards_of(pattern)
