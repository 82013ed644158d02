"""Running trainers under guard."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckpt_tools.guard import Status, read_status

LIGHT = Path(__file__).parent / "light.py"


class Guarded:
    """``ckpt guard`` of the light trainer, or of a command, in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.run = place / "run"

    def start(self, *command: object, options: tuple[str, ...] = (), **kwargs: Any) -> subprocess.Popen[bytes]:
        guard = [sys.executable, "-m", "ckpt_tools", "guard", str(self.run), *options, "--"]
        kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.place, **kwargs}
        return subprocess.Popen([*guard, sys.executable, *map(str, command)], start_new_session=True, **kwargs)

    def light(self, *values: float, options: tuple[str, ...] = ("--metric", "valid recall"), **kwargs: Any) -> Any:
        return self.start(LIGHT, self.run, *values, options=options, **kwargs)

    def train(self, *values: float, options: tuple[str, ...] = ("--metric", "valid recall")) -> str:
        """Train to the end; returns what the guard and the trainer said on stderr."""
        with self.light(*values, options=options) as guard:
            _, errors = guard.communicate(timeout=60)
        assert guard.returncode == 0, errors.decode()
        return str(errors.decode())

    def status(self) -> Status:
        return read_status(str(self.run))

    def wait_for_pins(self, count: int) -> None:
        wait_for(lambda: len(list(Path(f"{self.run}.pins").glob("0*"))) >= count)


def wait_for(happened: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
