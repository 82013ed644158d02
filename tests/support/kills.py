"""A trainer under guard, killed at random moments, and what must hold afterwards.

the best pin loads, and its weight is its value         it equals what was logged
a later best pin is never worse than an earlier one
what was saved and evaluated while a guard lived is in a pin, or better ones are
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckpt_tools.analysis.verification import verify
from ckpt_tools.guard import Pin, read_status
from ckpt_tools.readers import open_checkpoint

TRAINERS = Path(__file__).parent / "trainers"


@dataclass(frozen=True)
class Trainer:
    """One of the small trainers, and what a guard must be told of it."""

    name: str
    options: tuple[str, ...] = ()
    mode: str = "max"
    percent: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    python: str = sys.executable


ALL = (
    Trainer("tf1_saver", ("--metric", "test_auc")),
    Trainer("tf1_numbered", ("--metric", "valid recall")),
    Trainer("estimator_hooks", ("--metric", "accuracy")),
    Trainer("checkpoint_manager"),
    Trainer("checkpoint_write", ("--metric", "val_loss"), mode="min"),
    Trainer("keras_weights"),
    Trainer("keras_weights", environment=(("KERAS", "2"),)),
    Trainer("keras_model", ("--metric", "val_auc")),
    Trainer("keras_h5", mode="min"),
    Trainer("keras_save_weights", ("--pattern", r"Val Acc: ([\d.]+)%", "--mode", "max"), percent=True),
    Trainer("saved_model", ("--metric", "ndcg@10")),
    Trainer("copies", ("--metric", "mrr")),
)


class Run:
    """A run of one trainer in a directory of its own, through any number of starts and kills."""

    def __init__(self, trainer: Trainer, place: Path, seed: int) -> None:
        self.trainer = trainer
        self.place = place
        self.run = place / "run"
        self.notes = place / "notes.jsonl"
        self.seed = seed
        self.starts = 0
        self.best: float | None = None
        self.lost: list[str] = []
        self.excused: set[float] = set()

    def start(self, *, evaluations: int = 8, training: float = 0.3) -> subprocess.Popen[bytes]:
        self.starts += 1
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "SEED": str(1000 * self.seed + self.starts),
            "EVALUATIONS": str(evaluations),
            "TRAINING": str(training),
            "NOTES": str(self.notes),
            **dict(self.trainer.environment),
        }
        script = TRAINERS / f"{self.trainer.name}.py"
        guard = [sys.executable, "-m", "ckpt_tools", "guard", str(self.run), *self.trainer.options, "--"]
        return subprocess.Popen(
            [*guard, self.trainer.python, str(script), str(self.run)],
            env=environment,
            stdout=(self.place / f"out-{self.starts}").open("wb"),
            stderr=(self.place / f"err-{self.starts}").open("wb"),
            start_new_session=True,
        )

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def wait_for_notes(self, count: int, seconds: float = 60) -> None:
        """Wait until so many saves were noted in all."""
        deadline = time.monotonic() + seconds
        while len(self.said()) < count and time.monotonic() < deadline:
            time.sleep(0.01)

    def check(self) -> Pin | None:
        """What must hold at any time when nothing runs; settles what was killed, as the next guard would."""
        if not Path(f"{self.run}.pins").is_dir():
            return None
        found = read_status(str(self.run))
        assert not found.busy
        for pin in found.pins:
            assert verify(pin.path).whole, pin.path
            if pin.value is not None:
                value = pin.value / 100 if self.trainer.percent else pin.value
                assert math.isclose(weight_of(pin.path), value, abs_tol=6e-5), (pin, weight_of(pin.path))
        if found.best is not None:
            value = found.best.value
            assert value is not None
            assert self.best is None or value == self.best or (value > self.best) == (self.trainer.mode == "max"), (
                f"the best went from {self.best} to {value}"
            )
            self.best = value
        return found.best

    def check_nothing_lost(self, since: float = 0.0) -> None:
        """What was printed and saved is pinned, or a better one is; without a value when the guard died with it."""
        saved = [note["value"] for note in self.said() if note["event"] == "saved" and note["time"] >= since]
        saved = [value for value in saved if self._is_printed(value) and value not in self.excused]
        if not saved:
            return
        pinned = [weight_of(pin.path) for pin in read_status(str(self.run)).pins]
        sign = 1 if self.trainer.mode == "max" else -1
        best, held = max(sign * value for value in saved), max((sign * value for value in pinned), default=-math.inf)
        if held < best - 6e-5:
            self.lost.append(f"start {self.starts}: saved {sign * best}, pinned {pinned}")

    def excuse(self, since: float) -> None:
        """What was saved while no guard lived cannot be asked of one."""
        self.excused |= {note["value"] for note in self.said() if note["time"] >= since}

    def _is_printed(self, value: float) -> bool:
        text = f"{100 * value:.2f}%" if self.trainer.percent else f"{value:.4f}"
        outputs = (*self.place.glob("out-*"), *self.place.glob("err-*"))
        return any(text.encode() in output.read_bytes() for output in outputs)


def weight_of(path: str) -> float:
    """The one weight of a model, which is its metric."""
    with open_checkpoint(path) as checkpoint:
        names = [
            name
            for name, info in checkpoint.tensors.items()
            if info.dtype == "float32"
            and math.prod(info.shape) == 1
            and not any(word in name for word in ("best_metric", "optimizer", "learning_rate", "metrics"))
        ]
        assert len(names) == 1, names
        return float(checkpoint.read(names[0]).reshape(()))


def processes_of(guard: int) -> tuple[list[int], list[int]]:
    """The keeper and the trainer among the children of a guard: the keeper has the same command line."""
    keeper, trainer = [], []
    own = Path(f"/proc/{guard}/cmdline").read_bytes()
    for child in Path(f"/proc/{guard}/task/{guard}/children").read_text().split():
        (keeper if Path(f"/proc/{child}/cmdline").read_bytes() == own else trainer).append(int(child))
    return keeper, trainer


def kill(guard: subprocess.Popen[bytes], what: str) -> None:
    """End some of the processes of a guard at once, by SIGKILL."""
    keeper, trainer = processes_of(guard.pid)
    victims = {
        "trainer": trainer,
        "guard": [guard.pid],
        "keeper": keeper,
        "both": [guard.pid, *keeper],
        "all": [guard.pid, *keeper, *trainer],
    }
    for victim in victims[what]:
        os.kill(victim, signal.SIGKILL)


def ended(guard: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until all processes of a guard's session have ended."""
    guard.wait(seconds)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_session(int(entry)) == guard.pid for entry in os.listdir("/proc") if entry.isdigit()):
            return
        time.sleep(0.02)
    raise AssertionError("something of the guard lives on")


def _session(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    # One whose first thread alone has ended still holds its locks.
    return int(fields[3]) if fields[0] != "Z" or threads > 1 else None


def main() -> int:
    """So many kills of each trainer: ``python kills.py KILLS DIRECTORY [NAME...]``."""
    count, place, names = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    lost = 0
    for number, trainer in enumerate(ALL):
        label = trainer.name + "".join(f"-{value}" for _, value in trainer.environment)
        if names and label not in names:
            continue
        shutil.rmtree(place / label, ignore_errors=True)
        (place / label).mkdir(parents=True)
        run = Run(trainer, place / label, number)
        lost += kills(run, count, random.Random(number))
        print(f"{label}: {count} kills, best {run.best}, lost {run.lost}", flush=True)
    return int(lost > 0)


def kills(run: Run, count: int, chance: random.Random) -> int:
    """Kill something of a run at random so many times, check after each, let a last one end; returns what is lost."""
    for _ in range(count):
        what = chance.choice(("trainer", "guard", "keeper", "both", "all"))
        since = killed = time.time()
        guard = run.start()
        run.wait_for_notes(len(run.said()) + 1)
        time.sleep(chance.uniform(0, 2.5))
        if chance.random() < 0.1:
            shutil.rmtree(run.run, ignore_errors=True)  # as some trainers do themselves
        if guard.poll() is None:
            killed = time.time()
            kill(guard, what)
        ended(guard)
        if what in ("keeper", "both"):
            run.excuse(killed - 0.2)
        run.check()
        run.check_nothing_lost(since)
    guard = run.start()
    ended(guard)
    assert guard.returncode == 0, (run.place / f"err-{run.starts}").read_text()
    run.check()
    run.check_nothing_lost()
    return len(run.lost)


if __name__ == "__main__":
    sys.exit(main())
