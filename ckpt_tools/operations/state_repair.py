"""What is wrong with a state file, and what it should hold instead.

A saver deletes the oldest of what its state file lists. So a repaired file lists nothing that the file before did not
list, in the same order and with the same times: a best model beside the others is not given to the savers that delete.
Only where nothing can be read of the file, or it is absent, one checkpoint is named, and nothing else: the newest of
a family ``NAME-number`` that no other state file has to do with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ckpt_tools.analysis.newest import by_number, is_salvaged
from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format.filenames import STATE_FILE, bundle_part
from ckpt_tools.format.state import MAX_BYTES, State, remains_of_state
from ckpt_tools.fs import local, paths
from ckpt_tools.readers.state_files import copy_of_state, inside, other_states, read_state

_NUMBERED = re.compile(r"(?P<family>.*)-(?P<number>\d+)", re.DOTALL)
_BEST = re.compile(r"(.*[^a-z])?(best|top)([^a-z].*)?", re.DOTALL | re.IGNORECASE)
# What TensorFlow's own programs call the checkpoints that they save again and again.
_USUAL = ("model.ckpt", "ckpt")


@dataclass(frozen=True)
class Judgement:
    """``problem`` is None for a file that is right; ``state`` what it should hold, None when nothing can be named.

    ``hostile``: it leads out of its directory. ``choices``: the checkpoints of which none could be chosen.
    """

    problem: str | None = None
    state: State | None = None
    hostile: bool = False
    choices: tuple[str, ...] = ()


@dataclass
class _Reading:
    """What became of the entries of a file: their names here, which go on, and what is wrong with the others."""

    problems: list[str]
    names: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    hostile: bool = False


def judge(
    directory: str, name: str, *, names: Sequence[str], whole: Sequence[str], is_whole: Callable[[str], bool]
) -> Judgement:
    """The judgement on one state file, which may be absent.

    ``names`` are the checkpoints that lie here, ``whole`` those of them that may be named; ``is_whole`` is asked for
    what is not among them: one of another format, or below this directory.
    """
    path = os.path.join(directory, name)
    if not local.is_file(path, follow=True):
        if local.is_there(path):
            return Judgement()  # a directory of that name, or a link into nowhere
        return _absent(directory, names, whole, is_whole)
    damage = None
    try:
        state = read_state(directory, name)
    except CorruptError as error:
        damage = error.message
        state = remains_of_state(paths.read_file(path, limit=MAX_BYTES))
    except UnsafeError as error:
        damage, state = error.message, State("")
    return _of_state(directory, name, state, damage, names, whole, is_whole)


def _absent(directory: str, names: Sequence[str], whole: Sequence[str], is_whole: Callable[[str], bool]) -> Judgement:
    copy = copy_of_state(directory)
    if copy is not None:
        return _of_state(directory, STATE_FILE, copy[1], f"the file is here as {copy[0]!r}", names, whole, is_whole)
    newest, choices = _newest(directory, STATE_FILE, whole)
    return Judgement("the file is absent" if whole else None, newest, choices=choices)


def _of_state(
    directory: str,
    name: str,
    state: State,
    damage: str | None,
    names: Sequence[str],
    whole: Sequence[str],
    is_whole: Callable[[str], bool],
) -> Judgement:
    reading = _Reading([] if damage is None else [damage])
    for stored in dict.fromkeys((state.latest, *state.all)) if state.latest else dict.fromkeys(state.all):
        try:
            prefix = inside(directory, stored, name)
        except UnsafeError as error:
            reading.problems.append(error.message)
            reading.hostile = True
            continue
        here = _relative(prefix, directory)
        reading.names.append(here)
        if not _leads_to(os.path.join(directory, stored), prefix):
            reading.problems.append(f"names {stored}, {_why_not(stored, here)}")
        if here in whole or (here not in names and not is_salvaged(here) and is_whole(here)):
            reading.kept[stored] = stored if _leads_to(os.path.join(directory, stored), prefix) else here or "./"
        elif is_salvaged(here):
            reading.problems.append(f"names {here}, which is not complete")
        else:
            reading.problems.append(f"names {here or './'}, which is {'damaged' if here in names else 'gone'}")
    if not reading.problems:
        return Judgement()
    problem = reading.problems[0]
    if not reading.kept:
        if name != STATE_FILE:  # what it names is a best, or another choice: a newer one is not the same
            return Judgement(problem, None, reading.hostile)
        newest, choices = _newest(directory, name, whole, reading.names)
        return Judgement(problem, newest, reading.hostile, choices)
    return Judgement(problem, _without_the_lost(state, reading.kept), reading.hostile)


def _without_the_lost(state: State, kept: dict[str, str]) -> State:
    """The state with only the entries that are kept, each with its own time. ``kept`` maps paths as they are stored to
    what should be written. Two paths that are one here stand where the later of them stood."""
    pairs = [(kept[path], number) for number, path in enumerate(state.all) if path in kept]
    last = dict(pairs)
    order = sorted(last.items(), key=lambda item: item[1])
    latest = kept[state.latest] if state.latest in kept else order[-1][0]
    # TensorFlow gives the first time to the first path: one behind the last time has none, and those are the last.
    times = [state.timestamps[number] for _, number in order if number < len(state.timestamps)]
    return replace(state, latest=latest, all=tuple(path for path, _ in order), timestamps=tuple(times))


def _newest(
    directory: str, name: str, whole: Iterable[str], named: Sequence[str] = ()
) -> tuple[State | None, tuple[str, ...]]:
    """A state that names the newest whole checkpoint of one family; or the checkpoints of which none can be chosen.

    ``named`` are the checkpoints that the file listed: when there are any, the family is one of theirs.
    """
    taken = _named_by_others(directory, name)
    families: dict[str, list[str]] = {}
    for candidate in sorted(whole, key=by_number):
        match = _NUMBERED.fullmatch(candidate)
        if match and candidate not in taken and _can_be_written(candidate):
            families.setdefault(match["family"], []).append(candidate)
    own = [match["family"] for match in map(_NUMBERED.fullmatch, named) if match]
    if own:
        family = next((family for family in own if family in families), None)
    else:
        family = _one_of(families, {match["family"] for match in map(_NUMBERED.fullmatch, taken) if match})
    if family is None:
        return None, tuple(whole)
    newest = families[family][-1]
    return State(newest, (newest,)), ()


def _one_of(families: Mapping[str, Sequence[str]], of_others: set[str]) -> str | None:
    """The family that a program saves again and again; None when it cannot be told. Never one of best ones, or of
    another state file where there is a choice."""
    chosen = [family for family in families if not _BEST.fullmatch(family)]
    chosen = [family for family in chosen if family not in of_others] or chosen
    most = max((len(families[family]) for family in chosen), default=0)
    chosen = [family for family in chosen if len(families[family]) == most]
    if len(chosen) > 1:
        chosen = [family for family in chosen if family in _USUAL]
    return chosen[0] if len(chosen) == 1 else None


def _named_by_others(directory: str, name: str) -> set[str]:
    """The checkpoints that the other state files of the directory name, by their names here."""
    found = set()
    for other, state in other_states(directory).items():
        if other != name:
            for stored in (state.latest, *state.all):
                try:
                    found.add(_relative(inside(directory, stored, other), directory))
                except UnsafeError:
                    continue
    return found


def _relative(prefix: str, directory: str) -> str:
    """The name of a prefix from its directory; empty for the checkpoint without a name."""
    folder, name = os.path.split(prefix)
    below = os.path.relpath(folder or os.curdir, directory or os.curdir)
    return name if below == os.curdir else os.path.join(below, name)


def _leads_to(path: str, prefix: str) -> bool:
    """Whether TensorFlow, which takes a path as it is written, comes to this prefix. Raises StorageError when the
    system does not say: a state file is not written anew for that."""
    if os.path.basename(path) != os.path.basename(prefix) or "://" in path:  # a store is another place
        return False
    here = paths.identity(local.directory_of(path))
    return here is not None and here == paths.identity(local.directory_of(prefix))


def _why_not(stored: str, here: str) -> str:
    """Why TensorFlow does not come to the prefix that is meant."""
    part = bundle_part(os.path.basename(stored))
    if part is not None and part.prefix == os.path.basename(here):
        return "which is one of its files, and no prefix"
    if not here and os.path.basename(stored) == os.curdir:
        return "under which TensorFlow finds nothing"
    return "a path of another place"


def _can_be_written(name: str) -> bool:
    """Whether a name is text: TensorFlow reads no other in a state file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
