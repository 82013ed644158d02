"""Putting a pin back into its run, so that the trainer goes on from it: what is there now can be had back.

    a tensor bundle   takes the place of the one that it was pinned from, and the ``checkpoint`` file names it last
    a Keras file      is replaced as a whole

Both are changes as every other (`ckpt_tools.transactions`): at any moment the run has a whole checkpoint under that
name, the old one or the pin, and ``ckpt undo`` brings the old one back. The pin stays where it is.
"""

from __future__ import annotations

import os
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ckpt_tools import transactions
from ckpt_tools.analysis.pinned import is_whole
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError, UsageError
from ckpt_tools.format.filenames import INDEX, KERAS_ENDINGS, STATE_FILE, meta_name
from ckpt_tools.format.state import State
from ckpt_tools.fs import durable, local, paths
from ckpt_tools.guard.pins import Pins
from ckpt_tools.readers import Bundle
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.readers.state_files import inside, read_state
from ckpt_tools.runs.ledger import undo_command
from ckpt_tools.runs.pins import Pin
from ckpt_tools.transactions import Tidying

_REASON = "restore-pin"


@dataclass(frozen=True)
class Restored:
    """What was put back, or would be: ``path`` in the run is then what ``pin`` holds.

    ``changes`` tell what was changed there, in their order; none where all of it was so already. ``undo`` is the
    command that takes them back, None where there is nothing to take back.
    """

    pin: Pin
    path: str
    changes: tuple[str, ...]
    undo: str | None
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "pin": self.pin.path,
            "path": self.path,
            "metric": self.pin.metric,
            "value": self.pin.value,
            "changes": list(self.changes),
            "undo": self.undo,
            "dry_run": self.dry_run,
        }


def restore(run: str, *, number: int | None = None, to: str | None = None, dry_run: bool = False) -> Restored:
    """Put the best pin of a run (or the one with a ``number``) back to where it was saved, or to ``to`` in the run.

    Raises:
        NotFoundError: no pins, no best among them, or not that one.
        BusyError: a guard of this run is at work.
        UsageError: ``to`` leads out of the run, or is no name for such a file.
        UnsupportedError: a pin of a kind that consists of a directory, or of files that only belong together.
        and what `transactions.apply` and `transactions.replace_file` raise.
    """
    pins = Pins(run)
    if not local.is_directory(pins.directory, follow=True):
        raise NotFoundError("no pins: this run was never guarded", path=run)
    pin = _chosen(pins, run, number)
    if pin.kind not in ("bundle", "keras") or (pin.kind == "keras" and not pin.name.endswith(KERAS_ENDINGS)):
        target = os.path.join(run, pin.source)
        raise UnsupportedError(
            f"a pin of the kind {pin.kind} consists of files that only belong together",
            path=pin.path,
            hint=f"copy them to {target} yourself",
        )
    target = _target(run, pin, to)
    if dry_run:
        return _restored(pin, target, dry_run=True)
    with durable.locked(pins.directory):
        return _restored(pin, target, dry_run=False)


def _chosen(pins: Pins, run: str, number: int | None) -> Pin:
    listed = f"ckpt guard {shlex.quote(run)} --list"
    if number is None:
        best = pins.best(pins.identity(), quick=False)
        if best is None:
            raise NotFoundError(
                "no pin is known to be the best", path=pins.directory, hint=f"{listed}, then add --pin N"
            )
        return best
    pin = next((each for each in pins.all() if each.number == number), None)
    if pin is None:
        raise NotFoundError(f"there is no pin {number}", path=pins.directory, hint=listed)
    if not is_whole(pin, quick=False):
        raise NotFoundError(f"pin {number} is damaged", path=pin.path, hint=listed)
    return pin


def _target(run: str, pin: Pin, to: str | None) -> str:
    """Where in the run a pin goes; ``pin.json`` may come from anywhere, so that its word is not believed either."""
    name = (pin.source if to is None else to).removesuffix(INDEX)
    target = os.path.normpath(os.path.join(run, name))
    top, real = paths.real(run), paths.real(os.path.dirname(target))
    if os.path.basename(name) in ("", os.curdir, os.pardir) or os.path.commonpath([top, real]) != top:
        raise UsageError(f"{name} leads out of the run", path=run, hint="name a file in it with --to")
    ending = next((end for end in (".weights.h5", *KERAS_ENDINGS) if pin.name.endswith(end)), "")
    if pin.kind == "keras" and not target.endswith(ending):
        raise UsageError(f"--to {name}: the name must end in {ending}, as that of the pin")
    return target


def _restored(pin: Pin, target: str, *, dry_run: bool) -> Restored:
    directory = local.directory_of(target)
    if not dry_run:
        durable.make_directory(directory)
        transactions.recover(target)
    told: list[str] = []
    ids: list[str] = []
    if not _is_there(pin, target):
        told.append(f"{os.path.basename(target)} is what the pin holds")
        if not dry_run:
            ids.append(_put_back(pin, target))
    # Looked at last: a pin that is named before it is there would be none.
    tidying = _named_last(directory, os.path.basename(target)) if pin.kind == "bundle" else None
    if tidying is not None:
        told.append(f"{STATE_FILE} names it as the newest")
        if not dry_run:
            ids.append(os.path.basename(transactions.apply_tidying(tidying)))
    if pin.kind == "bundle" and not dry_run:
        _put_graph_back(pin, target)
    # With the state file two changes are taken back, and that is asked of the directory.
    undo = undo_command(target if tidying is None else directory) + (f" --to {ids[0]}" if len(ids) > 1 else "")
    return Restored(pin, target, tuple(told), undo if ids else None, dry_run)


def _is_there(pin: Pin, target: str) -> bool:
    """Whether the run holds this already, under this name: as it was pinned, or as it was put back before."""
    if pin.kind == "keras":
        return local.is_there(target) and _digest(pin.path) == _digest(target)
    try:
        with Bundle(pin.path) as ours, Bundle(target) as theirs:
            whole = all(finding.severity == "note" for finding in theirs.verify())
            first, second = _contents(ours), _contents(theirs)
            return whole and first == second
    except (CorruptError, NotFoundError, UnsafeError, UnsupportedError):  # a look that was refused tells nothing
        return False


def _contents(bundle: Bundle) -> tuple[bytes, dict[str, str]]:
    return (
        b"" if bundle.graph is None else bundle.graph_bytes,
        {name: bundle.digest(name) for name in bundle.tensors},
    )


def _digest(path: str) -> str:
    with local.RandomAccessFile(path) as file:
        return paths.sha256_of(file)


def _put_back(pin: Pin, target: str) -> str:
    """Make the change; returns its id."""
    evidence = {"pin": pin.path, "metric": pin.metric, "value": pin.value, "step": pin.step, "epoch": pin.epoch}
    if pin.kind == "keras":
        return transactions.replace_file(transactions.plan_copy(pin.path, target, reason=_REASON, evidence=evidence)).id
    with Bundle(pin.path) as bundle:
        plan = transactions.plan_replacement(bundle, target, reason=_REASON, evidence=evidence)
    return transactions.apply(plan).id


def _named_last(directory: str, name: str) -> Tidying | None:
    """The ``checkpoint`` file that names a bundle as the newest; None where it does, or where the run has none: a
    trainer that needs none would not look at it."""
    if not local.is_directory(directory, follow=True):
        return None
    path = os.path.join(directory, STATE_FILE)
    there = local.is_file(path, follow=True)
    if not there and any(other != name for other in prefixes_in(directory)):
        return None
    state = read_state(directory) if there else State("")
    target = os.path.join(directory, name)
    rows = [(stored, _leads_to(directory, stored, target)) for stored in state.all]
    if state.latest and _leads_to(directory, state.latest, target) and rows and rows[-1][1]:
        return None
    kept = [number for number, (_, own) in enumerate(rows) if not own]
    times = state.timestamps if len(state.timestamps) == len(rows) else ()
    new = replace(
        state,
        latest=name,
        all=(*(rows[number][0] for number in kept), name),
        timestamps=(*(times[number] for number in kept), f"{time.time():.6f}") if times else (),
    )
    return Tidying(
        directory, _REASON, (), new.encode(), {path: local.fingerprint(path) if local.is_there(path) else None}
    )


def _leads_to(directory: str, stored: str, target: str) -> bool:
    try:
        return os.path.abspath(inside(directory, stored)) == os.path.abspath(target)
    except UnsafeError:  # it leads out of the directory
        return False


def _put_graph_back(pin: Pin, target: str) -> None:
    """The graph of a TensorFlow 1 session, for those who restore by it: where the trainer has removed it."""
    kept, graph = meta_name(pin.path), meta_name(target)
    if local.is_there(kept) and not local.is_there(graph):
        with suppress(CkptError):
            durable.copy_file(kept, graph)
