"""Putting right what is wrong with a directory of checkpoints: first a plan, then its steps one by one.

    rebuild-index  an index that is lost, from another one whose checksums all fit the data
    salvage        the whole tensors of a damaged checkpoint, as a checkpoint of their own
    rewrite-state  a ``checkpoint`` file that is absent or damaged, or names what is not here or not whole (see
                   `ckpt_tools.operations.state_repair`)
    set-aside      what unfinished saves left behind

Nothing is deleted, and nothing that was whole is touched: what goes is kept in ``.ckpt-tools/backup``. A salvaged
checkpoint is never named in the ``checkpoint`` file: a program that restores "the newest" would take what is lost
for freshly initialised, and say nothing.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckpt_tools import transactions
from ckpt_tools.analysis.newest import SALVAGED, by_number, instead_of, is_salvaged
from ckpt_tools.analysis.stability import steady
from ckpt_tools.analysis.verification import Verification, verify
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.findings import Finding, Severity
from ckpt_tools.format.filenames import INDEX, STATE_FILE, bundle_part, index_name
from ckpt_tools.fs import local, paths
from ckpt_tools.operations.salvage import Lost, plan_salvage
from ckpt_tools.operations.state_repair import judge
from ckpt_tools.readers import Bundle
from ckpt_tools.readers.location import locate, prefixes_in
from ckpt_tools.readers.renamed import renamed_indexes
from ckpt_tools.readers.saved_model import is_saved_model
from ckpt_tools.readers.state_files import is_state_file, other_states
from ckpt_tools.runs import ledger
from ckpt_tools.runs.experiments import BEST_LINE, LATEST_LINE
from ckpt_tools.runs.leftovers import leftovers_in
from ckpt_tools.transactions import Plan, Tidying

REBUILD_INDEX, SALVAGE, REWRITE_STATE, SET_ASIDE = "rebuild-index", "salvage", "rewrite-state", "set-aside"

# Their tensors are whole, only not where they should be, or of two saves: half of them would be no checkpoint.
_NOT_FOR_SALVAGE = ("mixed-saves", "wrong-shard")


@dataclass(frozen=True)
class Action:
    """One step of a repair: ``path`` is the file or prefix that it makes or moves."""

    kind: str
    path: str
    sentence: str
    change: Plan | Tidying

    def to_json(self) -> dict[str, Any]:
        return {"action": self.kind, "path": self.path, "sentence": self.sentence, "change": self.change.to_json()}


@dataclass(frozen=True)
class Repair:
    """What to do, what is lost for good, and what no repair changes."""

    path: str
    actions: tuple[Action, ...]
    lost: tuple[Lost, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "actions": [action.to_json() for action in self.actions],
            "lost": [lost.to_json() for lost in self.lost],
            "findings": [finding.to_json() for finding in self.findings],
        }


def repair(path: str, *, dry_run: bool = False, now: float | None = None) -> Repair:
    """Plan the repair of a checkpoint, a directory of them or an experiment, and do it unless it is a dry run.

    Raises NotFoundError when there is nothing of a checkpoint, BusyError (also when something changes meanwhile),
    StorageError, UnsafeError.
    """
    if not dry_run:
        for directory in _directories(path):
            transactions.recover(os.path.join(directory, STATE_FILE))
            transactions.sweep(directory)
    # Only a state that lasts is planned for.
    made = _steady_plan(path, now=time.time() if now is None else now)
    if not dry_run:
        for action in made.actions:
            if isinstance(action.change, Plan):
                transactions.apply(action.change)
            else:
                transactions.apply_tidying(action.change)
    return made


def plan_repair(path: str, *, now: float) -> Repair:
    """The plan alone; reads every byte of every checkpoint, and writes nothing. ``now``: seconds since 1970.

    Raises UnsupportedError for what is no tensor bundle, NotFoundError where there is nothing to look at.
    """
    named = None if local.is_directory(path, follow=True) or _is_state(path) else _prefix_of(path)
    actions: list[Action] = []
    lost: list[Lost] = []
    findings: list[Finding] = []
    surveys = [_survey(directory) for directory in _directories(path)]
    names = [survey.path(name) for survey in surveys for name in survey.names]
    if named not in (None, *names) or not (names or any(survey.states or survey.left for survey in surveys)):
        locate(path)  # raises what explains it best
        raise UnsupportedError(
            "only tensor bundles can be repaired", path=path, hint=f"ckpt verify {shlex.quote(path)}"
        )
    for survey in surveys:
        planner = _Planner(survey, named, now)
        planner.run(surveys)
        actions += planner.actions
        lost += planner.lost
        findings += planner.findings
    return Repair(path, tuple(actions), tuple(lost), tuple(findings))


_steady_plan = steady(plan_repair, doubtful=lambda made: bool(made.actions or made.findings))


def _prefix_of(path: str) -> str:
    """The prefix that a path means, though its index or its data may be missing."""
    part = bundle_part(path)
    prefix = path if part is None else part.prefix
    return os.path.join(local.directory_of(prefix), os.path.basename(prefix))


def _is_state(path: str) -> bool:
    return os.path.basename(path) == STATE_FILE or (local.is_file(path, follow=True) and is_state_file(path))


def _directories(path: str) -> list[str]:
    """Where to look: the directory that is meant, and the lines of checkpoints when it is an experiment's folder."""
    if is_saved_model(path):
        return [os.path.join(path, "variables")]
    if not local.is_directory(path, follow=True):
        return [local.directory_of(path)]
    lines = [os.path.join(path, line) for line in (BEST_LINE, LATEST_LINE)]
    return [path, *(line for line in lines if local.is_directory(line, follow=True))]


# ------------------------------------------------------------------------------------------ what is there


@dataclass(frozen=True)
class _Survey:
    """The bundles of a directory by name: verified, or only their data files are there.

    ``data`` holds the size of each data file of a name, by its number and how many there should be.
    """

    directory: str
    verified: dict[str, Verification]
    without_index: tuple[str, ...]
    data: Mapping[str, Mapping[tuple[int, int], int]]
    states: tuple[str, ...]
    left: bool

    @property
    def names(self) -> list[str]:
        return [*self.verified, *self.without_index]

    @property
    def whole(self) -> list[str]:
        """What a resume may take: all that is whole and complete, oldest first by number."""
        found = [name for name, answer in self.verified.items() if answer.whole and not is_salvaged(name)]
        return sorted(found, key=by_number)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)


def _survey(directory: str) -> _Survey:
    ledger.require_own(directory)
    names = local.list_directory(directory)
    verified = {}
    for name in prefixes_in(directory):
        try:
            verified[name] = verify(os.path.join(directory, name))
        except (NotFoundError, UnsupportedError):
            continue  # another kind of file under this name, or of another version: not ours to judge
    data: dict[str, dict[tuple[int, int], int]] = {}
    for part_name in names:
        part = bundle_part(part_name)
        if part is not None and part.shard is not None and part.count is not None:
            with contextlib.suppress(NotFoundError):
                path = os.path.join(directory, part_name)
                if local.is_file(path, follow=True):
                    data.setdefault(part.prefix, {})[part.shard, part.count] = local.fingerprint(path).size
    return _Survey(
        directory,
        verified,
        tuple(sorted(name for name in data if not paths.has_file(index_name(os.path.join(directory, name))))),
        data,
        (
            *([STATE_FILE] if local.is_file(os.path.join(directory, STATE_FILE), follow=True) else []),
            *other_states(directory),
        ),
        any(True for _ in leftovers_in(directory, 0)),
    )


# ------------------------------------------------------------------------------------------ what to do


class _Planner:
    """The plan for one directory; ``named`` is the prefix that was asked for, if one was."""

    def __init__(self, survey: _Survey, named: str | None, now: float) -> None:
        self.actions: list[Action] = []
        self.lost: list[Lost] = []
        self.findings: list[Finding] = []
        self._survey = survey
        self._named = named
        self._now = now
        self._whole = survey.whole

    def run(self, surveys: Iterable[_Survey]) -> None:
        damaged = {name: answer for name, answer in self._survey.verified.items() if not answer.whole}
        unreadable = [name for name, answer in damaged.items() if answer.format is None]
        indexes = list(_indexes(surveys)) if unreadable or self._survey.without_index else []
        for name in sorted((*self._survey.without_index, *unreadable), key=by_number):
            self._rebuild(name, indexes)
        for name in sorted(damaged.keys() - set(unreadable), key=by_number):
            self._salvage(name, damaged[name])
        for name in dict.fromkeys((STATE_FILE, *self._survey.states)):
            self._state(name)
        self._set_aside()

    def _rebuild(self, name: str, indexes: Iterable[_Index]) -> None:
        """Give a prefix an index that all its data agrees with; without one, say that it is lost."""
        prefix = self._survey.path(name)
        sizes = self._survey.data.get(name, {})
        for index in (each.path for each in indexes if each.may_fit(sizes)):
            if index != index_name(prefix) and _fits(prefix, index):
                with Bundle(prefix, index=index) as bundle:
                    change = transactions.plan_index(bundle, reason=REBUILD_INDEX, evidence={"rebuilt_from": index})
                self._act(
                    REBUILD_INDEX, prefix, f"its index is made anew from {index}, which all data agrees with", change
                )
                self._whole = sorted([*self._whole, name], key=by_number)
                return
        answer = self._survey.verified.get(name)
        if answer is None:
            why = "its index is missing, and no other index here fits its data"
        else:
            why = answer.diagnosis.sentence if answer.diagnosis else answer.findings[0].message
        self._report(name, why)

    def _salvage(self, name: str, answer: Verification) -> None:
        """Keep the whole tensors of a damaged checkpoint that was asked for, or when there is nothing better."""
        prefix = self._survey.path(name)
        cause = answer.diagnosis
        self._report(name, cause.sentence if cause else answer.findings[0].message, cause.fix if cause else None)
        asked = self._named == prefix
        if not asked and (self._whole or is_salvaged(name) or (cause and cause.id in _NOT_FOR_SALVAGE)):
            return
        target = f"{prefix}{SALVAGED}"
        number = 2
        while (before := self._survey.verified.get(os.path.basename(target))) is not None:
            if before.whole:
                self._note("salvaged", f"what is whole of {_called(name)} has been salvaged before", target)
                return
            target, number = f"{prefix}{SALVAGED}-{number}", number + 1
        reasons = {f.key: f.message for f in answer.findings if f.severity == "damage" and f.key is not None}
        with Bundle(prefix) as bundle:
            made = plan_salvage(bundle, reasons, target=target)
            count = len(bundle.entries)
        if made is None:
            self._note("nothing-to-salvage", f"nothing of {_called(name)} can be used", prefix)
            return
        kept = count - len(made.lost)
        self._act(
            SALVAGE,
            target,
            f"{kept} of {count} tensors of {_called(name)} are whole and become a checkpoint",
            made.plan,
        )
        self.lost += made.lost

    def _state(self, name: str) -> None:
        """Put one state file right; the one that may be absent, and then is made, is ``checkpoint``."""
        directory = self._survey.directory
        there = name in self._survey.states
        if not there and (self._named is not None or is_saved_model(os.path.dirname(directory))):
            return
        path = os.path.join(directory, name)
        found = judge(directory, name, names=self._survey.names, whole=self._whole, is_whole=self._is_whole)
        if found.problem is None:
            return
        sources = {path: local.fingerprint(path) if local.is_there(path) else None}
        if found.state is not None:
            change = Tidying(directory, REWRITE_STATE, (), found.state.encode(), sources, name)
            sentence = f"{found.problem}: it will name {found.state.latest} as the newest"
            self._act(REWRITE_STATE, path, sentence, change)
        elif found.hostile:
            change = Tidying(directory, SET_ASIDE, (name,), None, sources, name)
            self._act(SET_ASIDE, path, f"{found.problem}, and there is no whole checkpoint to name instead", change)
        elif found.choices:
            self._note("state", f"{found.problem}, and {_not_known(found.choices)}", path)
        elif there:
            self._note("state", f"{found.problem}, and there is no whole checkpoint to name instead", path)

    def _is_whole(self, name: str) -> bool:
        """Whether a checkpoint of another format, or below this directory, is whole."""
        try:
            return verify(self._survey.path(name)).whole
        except UnsupportedError:
            return True  # nothing speaks against it
        except (NotFoundError, UnsafeError, CorruptError):
            return False

    def _set_aside(self) -> None:
        directory = self._survey.directory
        old = []
        for left in leftovers_in(directory, self._now):
            if left.fresh:
                message = "looks left over, but was changed in the last minutes: a save may be under way"
                self._note("fresh", message, left.path)
            else:
                old.append(left.path)
        if old:
            names = tuple(os.path.basename(path) for path in old)
            change = Tidying(directory, SET_ASIDE, names, None, {path: local.fingerprint(path) for path in old})
            self._act(SET_ASIDE, directory, f"left over by saves that were killed: {', '.join(names)}", change)

    def _act(self, kind: str, path: str, sentence: str, change: Plan | Tidying) -> None:
        self.actions.append(Action(kind, path, sentence, change))

    def _note(self, kind: str, message: str, path: str) -> None:
        self.findings.append(Finding(kind, "note", message, path))

    def _report(self, name: str, why: str, fix: str | None = None) -> None:
        """A checkpoint that stays damaged: a warning where others are whole, damage where nothing is."""
        others = instead_of(name, (other for other in self._whole if other != name))
        if others:
            fix = f"go on from {self._survey.path(others[-1])}, which is whole"
        message = f"{_called(name)} is damaged: {why}"
        severity: Severity = "warning" if others else "damage"
        self.findings.append(Finding("damaged", severity, message, self._survey.path(name), fix=fix))


def _not_known(names: Sequence[str]) -> str:
    shown = ", ".join(map(_called, names[:4])) + (f" and {len(names) - 4} others" if len(names) > 4 else "")
    return f"which checkpoint its program would go on from is not known: here {_are(names)} {shown}"


def _called(name: str) -> str:
    """A checkpoint's name as it is told; one without a name is its directory with a slash behind it."""
    return name or os.path.join(os.curdir, "")


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


@dataclass(frozen=True)
class _Index:
    """An index, and how many bytes it needs of each data file."""

    path: str
    needs: tuple[int, ...]

    def may_fit(self, sizes: Mapping[tuple[int, int], int]) -> bool:
        """Whether there are data files (by number, and of how many) with so many bytes: seen without opening any."""
        count = len(self.needs)
        return all(sizes.get((number, count), -1) >= need for number, need in enumerate(self.needs))


def _indexes(surveys: Iterable[_Survey]) -> Iterator[_Index]:
    """Every index that could belong to another prefix: those beside it, and the originals of earlier changes."""
    for survey in surveys:
        found = [index_name(survey.path(name)) for name, answer in survey.verified.items() if answer.format]
        for backup in ledger.backups(survey.directory):
            found += [index_name(os.path.join(backup, name)) for name in prefixes_in(backup)]
        found += renamed_indexes(survey.directory)
        for path in found:
            with contextlib.suppress(CkptError), Bundle(path.removesuffix(INDEX), index=path) as bundle:
                yield _Index(path, tuple(bundle.ends().values()))


def _fits(prefix: str, index: str) -> bool:
    """Whether every byte of a prefix's data is what an index says."""
    try:
        with Bundle(prefix, index=index) as bundle:
            return bool(bundle.entries) and not any(bundle.verify())
    except (CorruptError, NotFoundError, UnsupportedError, UnsafeError):
        return False
