"""Checkpoints are read where there is no POSIX, as on Windows: its modules and functions are hidden here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# One process for all: it begins as Python does on Windows, as far as that can be had here.
PROGRAM = """
import sys
# What Python itself needs of them is loaded before they are hidden.
import subprocess, tempfile, shutil, selectors, multiprocessing
for name in ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "posix_ipc"):
    sys.modules[name] = None
import os, signal
for name in (
    "pread", "preadv", "geteuid", "getuid", "getegid", "statvfs", "copy_file_range", "sched_getaffinity", "killpg",
    "setsid", "fork", "fchown", "posix_fadvise", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "O_NOCTTY",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("setitimer", "ITIMER_PROF", "SIGIO", "SIGKILL", "SIGHUP"):
    if hasattr(signal, name):
        delattr(signal, name)
import contextlib, io, json
from ckpt_tools.cli import run
answers = []
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(line)
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""
NAMES = ("tf1.15/best_model/*DNN", "tf2.21/best_model/*fixed*DNN")


def test_reading_commands_work_and_changing_ones_say_why_not(tmp_path: Path) -> None:
    runs = []
    for pattern in NAMES:
        source = next((ROOT / "fixtures/experiments").glob(pattern))
        shutil.copytree(source, tmp_path / source.name)
        runs.append(str(tmp_path / source.name))
    old, new = runs
    lines = [
        ["inspect", old, "--stats", "--digest", "--json"],
        ["verify", old, new, "--json"],
        ["diff", old, new, "--json"],
        ["explain", "not an sstable (bad magic number)", old],
        ["inspect", new, "--filter", "best_metric"],
        ["resume-check", new, "--json"],
        ["demo", str(tmp_path / "demo")],
        ["backfill", old, "--value", "0.5", "--force"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(lines)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    codes = [code for code, _, _ in answers]
    assert codes == [0, 0, 1, 0, 0, 0, 7, 7], answers[-1][2]
    inspected = json.loads(answers[0][1])
    assert inspected["tensors"]
    assert all(tensor["sha256"] for tensor in inspected["tensors"])
    for _, _, error in answers[-2:]:
        assert "checkpoints are read here, and not changed" in error
