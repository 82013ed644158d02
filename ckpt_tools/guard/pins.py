"""The directory ``RUN.pins``, beside the run and not in it: what is pinned, and what is held until that is decided.

    RUN.pins/guard.json            the metric, its direction, the order of lines and saves; replaced as a whole
    RUN.pins/events.jsonl          the evaluations that were read, so that a guard that was killed can be followed
    RUN.pins/held-N/               a save that may turn out to be the best one
    RUN.pins/N/                    a pin: the checkpoint's own files, and ``pin.json``, which says whose they are

A pin gets its name by the rename of its directory, after every byte was verified by this project's reader and is
durable: what was killed before leaves a ``held-N``, which the next guard settles. The best whole pin never goes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ckpt_tools import transactions
from ckpt_tools.analysis.pinned import is_whole
from ckpt_tools.errors import CkptError, CorruptError, StorageError, UnsafeError, UnsupportedError, UsageError
from ckpt_tools.format import json_text
from ckpt_tools.format.filenames import STATE_FILE, meta_name, temporary_of
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.format.state import encode_state
from ckpt_tools.fs import durable, local
from ckpt_tools.guard.metric import Identity, better
from ckpt_tools.guard.saves import Save, why_not_whole
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.base import float32
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.operations.best_values import meaning_of, plan_best
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.runs.metric_lines import Mode, is_like
from ckpt_tools.runs.pin_places import pins_directory
from ckpt_tools.runs.pins import PIN_FILE, SCHEMA_VERSION, STATE, Pin, pins_in, state_in
from ckpt_tools.transactions import FilePlan, Plan

_EVENTS = "events.jsonl"
# Of a line, as it is told with a value.
_MOST_SAID = 120
_MAX_EVENTS = 1 << 26
_HELD = re.compile(r"held-(\d{6,})")
_TRASH = re.compile(r"(?:trash|making)-\d{6,}")


def is_of(pin: Pin, identity: Identity | None) -> bool:
    """Whether the value of a pin is of a metric: one that lay there before the guard may be of another one."""
    return identity is None or is_like(pin.metric, pin.mode, identity.name, identity.mode)


class Pins:
    """The pins of one run. Only whoever holds the directory's lock may change anything."""

    def __init__(self, run: str) -> None:
        self.run = os.path.abspath(run)
        self.directory = pins_directory(run)
        self._removing = threading.RLock()
        self._verified: dict[int, dict[str, local.Fingerprint]] = {}
        self._remembered: dict[str, Any] | None = None

    # ------------------------------------------------------------------------------------------ reading

    def all(self) -> list[Pin]:
        """Every pin, oldest first; what is damaged beyond recognition is left out."""
        return list(pins_in(self.directory))

    def held(self) -> list[Pin]:
        """The saves that were not decided on."""
        return list(pins_in(self.directory, _HELD))

    def best(self, identity: Identity | None, *, quick: bool = True) -> Pin | None:
        """The best whole pin with a value of a metric; of equal ones the first. None without a direction or a pin."""
        return self._best_of(self.all(), identity, quick=quick)

    def _best_of(self, pins: Iterable[Pin], identity: Identity | None, *, quick: bool = True) -> Pin | None:
        mode = identity.mode if identity else None
        ranked = [pin for pin in pins if better(_value_of(pin), None, mode) and is_of(pin, identity)]
        ranked.sort(key=lambda pin: _rank(pin, mode))
        return next((pin for pin in ranked if self._is_whole(pin, quick=quick)), None)

    def _is_whole(self, pin: Pin, *, quick: bool) -> bool:
        """Of a pin that was made here, and every byte of it verified, whether its files are still the same."""
        if quick and pin.number in self._verified and self._verified[pin.number] == _files_of(pin.directory):
            return True
        return is_whole(pin, quick=quick)

    def state(self) -> dict[str, Any]:
        """What is known of the run: ``metric`` and ``order``; empty before the first."""
        return state_in(self.directory)

    def identity(self) -> Identity | None:
        return Identity.from_json(self.state().get("metric"))

    def events(self) -> list[dict[str, Any]]:
        """What the last guard of this run read; a last line that was cut off is left out."""
        try:
            text = local.read_file(os.path.join(self.directory, _EVENTS), limit=_MAX_EVENTS).decode("utf-8", "replace")
        except CkptError:
            return []
        found = []
        for line in text.split("\n"):
            with contextlib.suppress(ValueError):
                event = json_text.parse(line)
                if isinstance(event, dict):
                    found.append(event)
        return found

    # ------------------------------------------------------------------------------------------ writing

    def open(self) -> None:
        """Make the directory, durably, and clear away what was killed while it was made or removed."""
        durable.make_directory(self.directory)
        durable.sync_directory(local.directory_of(self.directory))
        for name in local.list_directory(self.directory):
            path = os.path.join(self.directory, name)
            if _TRASH.fullmatch(name):
                durable.remove_below(path)
            elif temporary_of(name) in (STATE, PIN_FILE):
                durable.remove(path)
        for pin in self.all():
            if pin.kind == "bundle":
                with contextlib.suppress(CkptError):
                    transactions.recover(pin.path)

    def remember(self, identity: Identity | None, order: str | None) -> None:
        """Keep what was learned of the run."""
        said = {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "metric": identity.to_json() if identity else None,
            "order": order,
        }
        if said == self._remembered:
            return
        if said != self.state():
            durable.write_atomic(os.path.join(self.directory, STATE), json.dumps(said, indent=1).encode() + b"\n")
        self._remembered = said

    def begin_events(self) -> None:
        """Forget the evaluations of runs that are settled."""
        durable.remove(os.path.join(self.directory, _EVENTS))
        self.record({"event": "start", "time": time.time()})

    def record(self, event: dict[str, Any]) -> None:
        """Append an event. It survives a kill, and need not survive a power loss: then the trainer is gone too."""
        path = os.path.join(self.directory, _EVENTS)
        durable.append_line(path, json.dumps(event), durable=False)

    def next_number(self) -> int:
        numbers = [0]
        for name in local.list_directory(self.directory):
            digits = re.search(r"\d{6,}$", name)
            if digits and not name.endswith(".json"):
                numbers.append(int(digits[0]))
        return max(numbers) + 1

    def hold(self, save: Save, *, begun: float, number: int, link: bool, check: bool = True) -> Pin | None:
        """Take hold of a save before the trainer overwrites it: data of bundles by hard link, all else by copy.

        Without ``check`` it is known to be complete. None when the trainer went on writing meanwhile: the next look
        sees another version. Raises CorruptError for what is not complete, StorageError when there is no room, or when
        taking it would leave the next save none.
        """
        making = os.path.join(self.directory, f"making-{number:06}")
        copied = sum(file.size for file in save.files if not (link and save.data(file)))
        if local.free_bytes(self.directory) < 2 * copied:
            raise StorageError(
                f"{copied} bytes more would leave no room for the next save of the trainer",
                path=self.directory,
                hint="free some space",
            )
        durable.make_directory(making)
        try:
            for file in save.files:
                source, target = os.path.join(save.directory, file.name), os.path.join(making, file.name)
                if os.path.dirname(file.name):
                    durable.make_directory(os.path.dirname(target))
                if link and save.data(file):
                    durable.link_or_copy(source, target)
                else:
                    durable.copy(source, target)
            name = os.path.relpath(save.path, save.directory)
            pin = Pin(
                number=number,
                directory=making,
                name="" if name == os.curdir else name,
                kind=save.kind,
                source=os.path.relpath(save.path, self.run),
                written=save.written,
                nbytes=save.nbytes,
                begun=begun,
                origin=save.origin,
            )
            if not save.unchanged():
                durable.remove_below(making)
                return None
            torn = why_not_whole(save, pin.path) if check else None
            if torn is not None:
                raise CorruptError(torn.message, path=save.path)
            # A kill leaves it as it is, and behind a power loss nobody asks for it: only what is pinned is synced.
            durable.create_file(os.path.join(making, PIN_FILE), _json_of(pin), synced=False)
            held = os.path.join(self.directory, f"held-{number:06}")
            durable.rename(making, held)
        except BaseException:
            with contextlib.suppress(CkptError):
                durable.remove_below(making)
            raise
        return replace(pin, directory=held)

    def pin(self, held: Pin, *, value: float | None, identity: Identity | None, **said: Any) -> Pin:
        """Make a pin of what is held: verified, with its value in it, durable; then it gets its name.

        Raises CorruptError when it cannot be read whole, StorageError; what is held then stays.
        """
        pin = replace(
            held,
            value=value,
            metric=identity.name if identity and value is not None else None,
            mode=identity.mode if identity and value is not None else None,
            **said,
        )
        plan = None
        # Without room for it the value is in the pin's own file only: better than no pin.
        no_place = contextlib.suppress(StorageError, CorruptError, UnsupportedError, UnsafeError, UsageError)
        with open_checkpoint(held.path) as checkpoint:
            for finding in checkpoint.verify():
                raise CorruptError(finding.message, path=finding.path or held.path, key=finding.key)
            if value is not None and not pin.stored:
                with no_place:
                    plan = _plan(checkpoint, pin, value, identity)
        self._take_graph(held)
        if plan is not None:
            with no_place:
                _store(plan)
                pin = replace(pin, stored=True)
        if pin.kind == "bundle":
            # So that what restores the newest of a directory finds it.
            state = encode_state(pin.name, [pin.name])
            durable.write_atomic(os.path.join(pin.directory, STATE_FILE), state, durable=False)
        for name in (name for name in _files_of(pin.directory) if name not in (STATE_FILE, PIN_FILE)):
            durable.sync_file(os.path.join(pin.directory, name))
        durable.write_atomic(os.path.join(pin.directory, PIN_FILE), _json_of(pin), durable=False)
        for folder, _, _ in os.walk(pin.directory):
            durable.sync_directory(folder)
        self._verified[pin.number] = _files_of(pin.directory)
        place = os.path.join(self.directory, f"{pin.number:06}")
        durable.rename(pin.directory, place)
        durable.sync_directory(self.directory)
        return replace(pin, directory=place)

    def _take_graph(self, held: Pin) -> None:
        """Copy the graph that TensorFlow 1 writes behind a checkpoint, for those who restore by it."""
        graph = os.path.join(self.run, meta_name(held.source))
        copy = meta_name(held.path)
        with contextlib.suppress(CkptError):
            if held.kind == "bundle" and local.is_file(graph, follow=True) and not local.is_there(copy):
                durable.copy(graph, copy)

    def drop(self, pins: Iterable[Pin]) -> None:
        """Remove pins or what is held; killed half-way, the next `open` ends it."""
        with self._removing:
            for pin in pins:
                trash = os.path.join(self.directory, f"trash-{pin.number:06}")
                durable.rename(pin.directory, trash)
                durable.remove_below(trash)
                self._verified.pop(pin.number, None)

    def drop_held(self) -> None:
        """Remove all that is held, what cannot be read of it too."""
        for name in local.list_directory(self.directory):
            if _HELD.fullmatch(name):
                trash = os.path.join(self.directory, name.replace("held", "trash"))
                durable.rename(os.path.join(self.directory, name), trash)
                durable.remove_below(trash)

    def retain(self, keep: int, identity: Identity | None) -> list[Pin]:
        """Remove all but ``keep`` pins, the best ones by value; returns those that went.

        While the direction is not known none goes, nor when no whole best one is among those that stay. Of those
        without a value of this metric the newest stays, until a pin with one is there that was written later.
        """
        with self._removing:
            pins = self.all()
            best = self._best_of(pins, identity)
            valued = [pin for pin in pins if pin.value is not None and is_of(pin, identity)]
            mode = identity.mode if identity else None
            if mode is None and len(valued) > 1:
                return []
            ranked = sorted(valued, key=lambda pin: _rank(pin, mode))
            if valued and best is None:
                return []
            stay = {pin.number for pin in ranked[: max(1, keep)]} | ({best.number} if best else set())
            unknown = [pin for pin in pins if pin not in valued]
            stay |= {pin.number for pin in unknown[-1:]}
            gone = [pin for pin in pins if pin.number not in stay]
            self.drop(gone)
            return gone


def _value_of(pin: Pin) -> float:
    return math.nan if pin.value is None else pin.value


def _rank(pin: Pin, mode: Mode | None) -> tuple[float, int]:
    """The best first, of equal ones the first; without a direction the newest."""
    if mode is None:
        return 0.0, -pin.number
    return (-_value_of(pin) if mode == "max" else _value_of(pin)), pin.number


def _files_of(directory: str) -> dict[str, local.Fingerprint]:
    """The files of a pin by their names in its directory."""
    found = {}
    for folder, _, names in os.walk(directory):
        for path in (os.path.join(folder, name) for name in names):
            found[path[len(directory) + 1 :]] = local.fingerprint(path)
    return found


def _json_of(pin: Pin) -> bytes:
    return json.dumps(pin.stored_json(), indent=1).encode() + b"\n"


def _plan(checkpoint: Checkpoint, pin: Pin, value: float, identity: Identity | None) -> Plan | FilePlan | None:
    """How to write the value, and what it means, into a checkpoint; None where its format has no place for it."""
    name, mode = (identity.name, identity.mode) if identity else (None, None)
    evidence = {
        "metric": {"name": name, "mode": mode, "value": value} if identity else None,
        "line": pin.line,
        "step": pin.step,
        "epoch": pin.epoch,
    }
    if pin.kind not in ("bundle", "keras"):
        return None
    if isinstance(checkpoint, Bundle) and identify(checkpoint) is not None:
        return _plan_of_known(checkpoint, value, evidence)
    said = f"printed: {pin.line[:_MOST_SAID]}" if pin.line else "from before it was guarded"
    meaning = meaning_of(value, name, mode, step=pin.step, evidence=f"pinned by ckpt guard; {said}")
    return plan_best(checkpoint, value, meaning, reason="guard", evidence=evidence)


def _store(plan: Plan | FilePlan) -> None:
    if isinstance(plan, Plan):
        transactions.apply_own(plan)
    else:
        transactions.replace_own(plan)


def _plan_of_known(bundle: Bundle, value: float, evidence: Mapping[str, Any]) -> Plan:
    """The trainers of ComiRec know one metric: they get the value alone."""
    key = next((key for key in (BEST_METRIC + VALUE_SUFFIX, BEST_METRIC) if key in bundle.tensors), None)
    return transactions.plan_scalar(
        bundle,
        key=key or (BEST_METRIC + VALUE_SUFFIX if bundle.graph else BEST_METRIC),
        name=BEST_METRIC,
        value=float32(value),
        reason="guard",
        evidence=evidence,
    )
