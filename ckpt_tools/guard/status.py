"""What is pinned of a run."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import Any

from ckpt_tools.analysis.pinned import is_whole
from ckpt_tools.errors import NotFoundError
from ckpt_tools.fs import local
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.metric import Identity, MetricReader
from ckpt_tools.guard.pins import Pins, is_of
from ckpt_tools.runs.pins import Pin


@dataclass(frozen=True)
class Status:
    """The pins of a run, the best first. ``whole`` tells of each whether all of it is there."""

    run: str
    directory: str
    metric: Identity | None
    order: str | None
    pins: tuple[Pin, ...]
    whole: tuple[bool, ...]
    best: Pin | None
    busy: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "pins": self.directory,
            "metric": self.metric.to_json() if self.metric else None,
            "order": self.order,
            "busy": self.busy,
            "best": self.best.path if self.best else None,
            "pinned": [
                {
                    "path": pin.path,
                    "source": pin.source,
                    "kind": pin.kind,
                    "metric": pin.metric,
                    "mode": pin.mode,
                    "value": pin.value,
                    "step": pin.step,
                    "epoch": pin.epoch,
                    "line": pin.line,
                    "written": pin.written,
                    "nbytes": pin.nbytes,
                    "stored_in_checkpoint": pin.stored,
                    "best": self.best is not None and pin.number == self.best.number,
                    "whole": whole,
                }
                for pin, whole in zip(self.pins, self.whole, strict=True)
            ],
        }


def read_status(run: str) -> Status:
    """What is pinned; what a guard that was killed left undone is finished first, unless another one is at work.

    Raises NotFoundError when this run was never guarded.
    """
    pins = Pins(run)
    if not local.is_directory(pins.directory, follow=True):
        raise NotFoundError(
            "no pins: this run was never guarded", path=run, hint=f"ckpt guard {shlex.quote(run)} -- python train.py"
        )
    busy = False
    if os.access(pins.directory, os.W_OK):
        keeper = Keeper(run, MetricReader(identity=pins.identity()), keep=1 << 30)
        busy = not keeper.begin(training=False)
        keeper.close()
    identity = pins.identity()
    best = pins.best(identity)
    found = pins.all()
    sign = -1.0 if identity is not None and identity.mode == "max" else 1.0
    found.sort(key=lambda pin: (pin.value is None or not is_of(pin, identity), sign * (pin.value or 0.0), pin.number))
    state = pins.state()
    return Status(
        run=pins.run,
        directory=pins.directory,
        metric=identity,
        order=state.get("order"),
        pins=tuple(found),
        whole=tuple(is_whole(pin) for pin in found),
        best=best,
        busy=busy,
    )
