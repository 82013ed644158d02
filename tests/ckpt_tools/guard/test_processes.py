"""A guard is not seen: output, terminals, codes and signals are the trainer's own, and no failure disturbs it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from guarding import Guarded
from kills import ended, processes_of

from ckpt_tools.cli import run

OUTPUT = r"""
import os, sys
os.write(1, b"\x1b[31mred\x1b[0m\r 10%\r 20%\nno newline \xff")
os.write(2, b"warning\n")
sys.exit(int(sys.argv[1]))
"""


def test_the_output_and_the_exit_code_are_the_trainers(guarded: Guarded) -> None:
    with guarded.start("-c", OUTPUT, 3, options=("--quiet",)) as guard:
        output, errors = guard.communicate(timeout=60)
    assert guard.returncode == 3
    assert output == b"\x1b[31mred\x1b[0m\r 10%\r 20%\nno newline \xff"
    assert errors.startswith(b"warning\n")


def test_nothing_of_what_a_trainer_writes_at_its_end_is_lost(guarded: Guarded) -> None:
    code = "import os, sys; sys.stdout.write('x' * 300_000); sys.stdout.flush(); os.write(2, b'the last'); os._exit(0)"
    for _ in range(3):
        with guarded.start("-c", code, options=("--quiet", "--metric", "auc")) as guard:
            output, errors = guard.communicate(timeout=60)
        assert len(output) == 300_000
        assert b"the last" in errors


def test_a_trainer_that_a_signal_killed_ends_with_128_and_the_signal(guarded: Guarded) -> None:
    with guarded.start("-c", "import os; os.kill(os.getpid(), 9)") as guard:
        guard.communicate(timeout=60)
    assert guard.returncode == 128 + 9


def test_a_command_that_is_not_there_is_said_before_anything_starts(guarded: Guarded) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ckpt_tools", "guard", str(guarded.run), "--", "./no-such-trainer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "no such command" in done.stderr


@pytest.mark.parametrize("word", ["a\0b", "recall: \ud800"])
def test_a_word_that_no_system_passes_on_is_said(guarded: Guarded, word: str) -> None:
    """Only a program that calls this one can give it."""
    for command in (
        ["guard", str(guarded.run), "--", "echo", word],
        ["backfill", str(guarded.run), "--evaluate", word],
    ):
        assert run(command) in (2, 3), command


def test_a_terminal_stays_one_and_a_pipe_a_pipe(guarded: Guarded) -> None:
    source, terminal = pty.openpty()
    code = "import os; print([os.isatty(n) for n in (1, 2)], os.get_terminal_size(1).columns > 0 or 'no size', end='|')"
    with guarded.start("-c", code, stdout=terminal, options=("--quiet",)) as guard:
        guard.communicate(timeout=60)
    os.close(terminal)
    assert b"[True, False]" in os.read(source, 1000)
    os.close(source)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_signals_go_to_the_trainer(guarded: Guarded, name: str) -> None:
    code = (
        "import signal, sys, time\n"
        f"signal.signal(signal.{name}, lambda *_: (print('heard'), sys.exit(7)))\n"
        "print('ready')\ntime.sleep(60)"
    )
    with guarded.start("-c", code, options=("--quiet",)) as guard:
        assert guard.stdout is not None
        assert guard.stdout.readline() == b"ready\n"
        os.kill(guard.pid, getattr(signal, name))
        assert guard.stdout.readline() == b"heard\n"
        assert guard.wait(60) == 7


def test_an_interrupt_of_the_terminal_reaches_the_trainer_once(guarded: Guarded) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))\n"
        "print('ready', sys.stdout.isatty(), flush=True)\ntime.sleep(0.7)\nsys.exit(9)"
    )
    command = [
        sys.executable,
        "-m",
        "ckpt_tools",
        "guard",
        str(guarded.run),
        "--quiet",
        "--",
        sys.executable,
        "-c",
        code,
    ]
    guard, terminal = pty.fork()
    if guard == 0:
        os.execv(command[0], command)
    said = b""
    while b"ready True" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # a terminal whose last user has left
        while more := os.read(terminal, 1000):
            said += more
    _, state = os.waitpid(guard, 0)
    assert os.waitstatus_to_exitcode(state) == 9
    assert said.count(b"interrupted") == 1


def test_a_file_is_no_run(guarded: Guarded) -> None:
    guarded.run.write_text("")
    with guarded.start("-c", "print(1)") as guard:
        output, errors = guard.communicate(timeout=60)
    assert (guard.returncode, output) == (2, b"")
    assert b"a run is the directory" in errors


def test_a_guard_that_is_killed_leaves_the_training_and_the_pinning_alone(guarded: Guarded) -> None:
    out = guarded.place / "out"
    with guarded.light(0.3, 0.2, 0.5, 0.4, 0.7, stdout=out.open("wb")) as guard:
        guarded.wait_for_pins(1)
        os.kill(guard.pid, signal.SIGKILL)
        ended(guard)
    assert len(out.read_bytes().splitlines()) == 5
    best = guarded.status().best
    assert best is not None
    assert best.value == 0.7


def test_the_training_goes_on_when_the_second_process_is_killed_and_the_next_guard_goes_on(guarded: Guarded) -> None:
    with guarded.light(0.3, 0.2, 0.5, 0.4) as guard:
        guarded.wait_for_pins(1)
        keeper, _ = processes_of(guard.pid)
        os.kill(keeper[0], signal.SIGKILL)
        output, errors = guard.communicate(timeout=60)
    assert guard.returncode == 0
    assert len(output.splitlines()) == 4
    assert b"second process was killed" in errors
    guarded.train(0.4, 0.6)
    best = guarded.status().best
    assert best is not None
    assert best.value == 0.6


def test_pins_that_cannot_be_made_are_said_at_the_end_and_nothing_else(guarded: Guarded) -> None:
    Path(f"{guarded.run}.pins").write_text("in the way")
    said = guarded.train(0.3, 0.5)
    assert "cannot create the directory" in said


def test_another_guard_of_the_same_run_waits_for_the_pins(guarded: Guarded) -> None:
    with guarded.light(0.3, *[0.2] * 200) as first:
        guarded.wait_for_pins(1)
        said = guarded.train(0.1)
        first.terminate()
        first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert "nothing was pinned" in said
    best = guarded.status().best
    assert best is not None
    assert best.value == 0.3


def test_json_is_alone_on_stdout(guarded: Guarded) -> None:
    with guarded.light(0.3, 0.5, options=("--metric", "valid recall", "--json")) as guard:
        output, errors = guard.communicate(timeout=60)
    document = json.loads(output)
    assert document["exit_code"] == 0
    assert [pin["value"] for pin in document["pinned"]] == [0.5, 0.3]
    assert document["best"] == document["pinned"][0]["path"]
    assert b"epoch 0: valid recall 0.3" in errors


def test_output_that_nobody_reads_any_more_does_not_end_the_training(guarded: Guarded) -> None:
    with guarded.light(0.3, 0.2, 0.5) as guard:
        assert guard.stdout is not None
        assert guard.stderr is not None
        guard.stdout.close()
        said = guard.stderr.read()
    assert guard.returncode == 0
    best = guarded.status().best
    assert best is not None
    assert best.value == 0.5, said
