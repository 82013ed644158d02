"""What a change needs is asked for before its commit: locks, owners, files that may be moved."""

from __future__ import annotations

import ast
import errno
import fcntl
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, contents, rewrite, snapshot, stored_best

import ckpt_tools.transactions
from ckpt_tools.cli import run
from ckpt_tools.errors import StorageError
from ckpt_tools.transactions import undo


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    return build_bundle(tmp_path / "run" / "x", {"a": np.arange(3), "b": np.arange(50.0)})


# ------------------------------------------------------------------------------------------------ locks


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EIO, errno.EBADF, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = snapshot(os.path.dirname(prefix))
    with pytest.raises(StorageError, match="cannot lock") as caught:
        rewrite(prefix, 0.5)
    assert "--no-lock" in (caught.value.hint or "")
    assert snapshot(os.path.dirname(prefix)) == before
    assert run(["undo", prefix, "--no-lock", "--json"]) == 3  # there is nothing to undo, and no lock was asked for
    assert "not-locked" in [found["id"] for found in json.loads(capsys.readouterr().out)["findings"]]
    assert snapshot(os.path.dirname(prefix)) == before


def test_without_a_lock_it_is_said(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(prefix, 0.5)
    assert run(["undo", prefix, "--no-lock"]) == 0
    assert "without a lock" in capsys.readouterr().err
    assert stored_best(prefix) is None


# ------------------------------------------------------------------------------------------------ owners

AS_SOMEBODY = """
import os, sys
import ckpt_tools.transactions, ckpt_tools.readers, numpy
sys.path[:0] = sys.argv[2:]
import rewrite_worker
os.setgroups([])
os.setgid(1234)
os.setuid(1234)
sys.exit(rewrite_worker.main(*sys.argv[1].split(",")))
"""


def as_somebody(*command: str) -> subprocess.CompletedProcess[str]:
    """The worker as another user; all is imported before, as that user may not see this interpreter's files."""
    arguments = [sys.executable, "-c", AS_SOMEBODY, ",".join(command), *sys.path]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user may reach: pytest's own are for one user only."""
    if os.geteuid() != 0:
        pytest.skip("only root can work as somebody else")
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("whose", ["x.data-00000-of-00001", "x.index"])
def test_a_file_of_another_user_in_a_sticky_directory(shared: Path, whose: str) -> None:
    """Before the commit, not after it, where it would fail for ever."""
    prefix = build_bundle(shared / "x", {"a": np.arange(3)})
    for path in shared.iterdir():
        os.chown(path, 1234 if path.name != whose else 0, 1234)
    shared.chmod(0o1777)
    before = snapshot(shared)
    done = as_somebody("rewrite", prefix, "0.5")
    assert (done.returncode, "sticky" in done.stderr) == (5, True), done.stderr
    assert snapshot(shared) == before
    assert os.listdir(shared) == [path for path in os.listdir(shared) if not path.startswith(".ckpt")]
    os.chown(shared / whose, 1234, 1234)
    assert as_somebody("rewrite", prefix, "0.5").returncode == 0
    assert stored_best(prefix) == 0.5


def test_a_ledger_of_another_user_that_cannot_be_written(shared: Path) -> None:
    prefix = build_bundle(shared / "x", {"a": np.arange(3)})
    rewrite(prefix, 0.25)
    for where, folders, names in os.walk(shared):
        for name in (*folders, *names, "."):
            os.chown(os.path.join(where, name), 1234, 1234)
    os.chown(shared / ".ckpt-tools" / "ledger.jsonl", 0, 0)
    before = snapshot(shared)
    done = as_somebody("rewrite", prefix, "0.5")
    assert (done.returncode, "append to" in done.stderr) == (5, True), done.stderr
    assert snapshot(shared) == before


def test_an_undo_that_could_not_be_ended_is_not_begun(shared: Path) -> None:
    """Its ledger, or what is kept of the change, is another user's: after the commit it would fail for ever."""
    prefix = build_bundle(shared / "x", {"a": np.arange(3)})
    backup = Path(rewrite(prefix, 0.25).backup)
    for path in (shared, *shared.iterdir()):
        os.chown(path, 1234, 1234)
    for obstacle in (shared / ".ckpt-tools" / "ledger.jsonl", backup.parent, backup):
        before = snapshot(shared)
        done = as_somebody("undo", prefix)
        assert (done.returncode, str(obstacle) in done.stderr) == (5, True), done.stderr
        assert snapshot(shared) == before
        os.chown(obstacle, 1234, 1234)
    assert as_somebody("undo", prefix).returncode == 0
    assert stored_best(prefix) is None


def test_what_root_does_in_a_users_directory_is_the_users(shared: Path) -> None:
    prefix = build_bundle(shared / "x", {"a": np.arange(3)})
    before = contents(shared)
    for path in (shared, *shared.iterdir()):
        os.chown(path, 1234, 1234)
    rewrite(prefix, 0.25)
    for where, folders, names in os.walk(shared):
        for name in (*folders, *names):
            assert os.lstat(os.path.join(where, name)).st_uid == 1234, name
    assert as_somebody("rewrite", prefix, "0.5").returncode == 0
    for _ in range(2):
        done = as_somebody("undo", prefix)
        assert done.returncode == 0, done.stderr
    assert {name: row for name, row in contents(shared).items() if "ledger" not in name} == before


# ------------------------------------------------------------------------------------------------ looks

BANNED = {
    "os.path": {"exists", "lexists", "isfile", "isdir", "islink", "samefile"},
    "glob": {"glob", "iglob"},
    "Path": {"exists", "is_file", "is_dir", "glob"},
}


def deciding() -> list[str]:
    """The modules that decide what is removed, moved or written anew."""
    found = [
        f"ckpt_tools.transactions.{module.name}" for module in pkgutil.iter_modules(ckpt_tools.transactions.__path__)
    ]
    others = ("fs.local", "fs.durable", "runs.ledger", "runs.leftovers", "operations.repairing", "cli.commands.undo")
    return [*found, *(f"ckpt_tools.{name}" for name in others)]


@pytest.mark.parametrize("module", deciding())
def test_nothing_that_decides_takes_a_refused_look_for_an_absence(module: str) -> None:
    """``os.path.exists`` and its like answer False when the system does not say: `fs.local.look` is to be used."""
    path = importlib.import_module(module).__file__
    assert path is not None
    names = {
        f"{ast.unparse(node.value)}.{node.attr}"
        for node in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(node, ast.Attribute)
    }
    banned = {f"{owner}.{name}" for owner, known in BANNED.items() for name in known}
    assert not names & banned
    assert "import glob" not in Path(path).read_text()


def test_an_immutable_file_is_seen_before_anything_is_begun(
    prefix: str, monkeypatch: pytest.MonkeyPatch, require_tool: Callable[[str], str]
) -> None:
    data = f"{prefix}.data-00000-of-00001"
    if subprocess.run([require_tool("chattr"), "+i", data], capture_output=True, check=False).returncode:
        monkeypatch.setattr("ckpt_tools.fs.durable._flags", lambda path: 0x10 if str(path) == data else 0)
    before = snapshot(os.path.dirname(prefix))
    try:
        with pytest.raises(StorageError, match="immutable"):
            rewrite(prefix, 0.5)
        assert snapshot(os.path.dirname(prefix)) == before
    finally:
        subprocess.run(["chattr", "-i", data], capture_output=True, check=False)
    monkeypatch.undo()
    rewrite(prefix, 0.5)
    undo(prefix)
