"""What a file system or another program can do to a rewrite, a question or a repair, one fault each."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rewrite_worker
import strace
from checkpoints import build_bundle, digests, pick, rewrite, snapshot, stored_best

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import DurabilityWarning, StorageError, UnsafeError, UnsupportedError
from ckpt_tools.fs import durable
from ckpt_tools.operations.repairing import repair
from ckpt_tools.readers.location import latest_in
from ckpt_tools.transactions import undo


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    return build_bundle(tmp_path / "run" / "x", {"a": np.arange(3), "b": np.arange(5000.0)})


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a small file system of its own; skipped where that is not allowed."""
    done: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / "mounted"
        place.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
        if made.returncode:
            pytest.skip("may not mount a file system")
        done.append(place)
        return place

    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    yield mount
    for place in done:
        subprocess.run(["umount", "-l", place], check=True)


# ------------------------------------------------------------------------------------------ space, permission, media


def test_a_full_disk_at_every_amount_of_room(mounted: Callable[..., Path]) -> None:
    """From no room at all to enough, one page more each time."""
    place = mounted("256k")
    prefix = build_bundle(place / "x", {"a": np.arange(3), "b": np.arange(5000.0)})
    ballast = place / "ballast"
    free = os.statvfs(place).f_bavail
    refused = 0
    messages: list[str] = []
    for pages in range(free + 1):
        ballast.write_bytes(bytes((free - pages) * os.statvfs(place).f_frsize))
        before = {name: row[1:] for name, row in snapshot(place).items() if name != "ballast"}
        try:
            rewrite(prefix, 0.5)
        except StorageError as error:
            messages.append(f"{error} {error.hint}")
            after = {name: row[1:] for name, row in snapshot(place).items() if name != "ballast"}
            if error.hint and "the change is made" in error.hint:
                assert stored_best(prefix) == 0.5
                break
            assert after == before, pages
            refused += 1
        else:
            assert stored_best(prefix) == 0.5
            break
    else:
        pytest.fail("never enough room")
    assert refused > 2
    assert all("space" in message for message in messages)


def test_a_file_system_that_is_read_only(mounted: Callable[..., Path]) -> None:
    place = mounted("1m")
    prefix = build_bundle(place / "x-1", {"a": np.arange(3)})
    (place / "checkpoint").write_bytes(b"")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    assert verify(prefix).whole
    assert len(inspect(prefix).tensors) == 1
    for change in (lambda: rewrite(prefix, 0.5), lambda: undo(prefix), lambda: repair(str(place))):
        with pytest.raises(StorageError, match="Read-only"):
            change()
    assert [action.kind for action in repair(str(place), dry_run=True).actions] == ["rewrite-state"]


def test_a_disk_that_cannot_be_read_is_not_called_damage(prefix: str) -> None:
    ckpt = str(Path(sys.executable).parent / "ckpt")
    for suffix in ("index", "data-00000-of-00001"):
        path = f"{prefix}.{suffix}"
        done = strace.command("pread64", "error=EIO", ckpt, "verify", prefix, path=path)
        assert done.returncode == 5, done.stderr
        assert path in done.stderr
        assert "Input/output error" in done.stderr
        assert "bytes at" in done.stderr


def test_a_read_that_is_interrupted_is_tried_again(prefix: str) -> None:
    ckpt = str(Path(sys.executable).parent / "ckpt")
    path = f"{prefix}.data-00000-of-00001"
    done = strace.command("pread64", "error=EINTR:when=1+2", ckpt, "verify", prefix, path=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", ["EXDEV", "EIO", "EPERM"])
def test_a_rename_that_is_refused(prefix: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(os.path.dirname(prefix))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError):
        rewrite(prefix, 0.5)
    assert snapshot(os.path.dirname(prefix)) == before


@pytest.mark.parametrize("kind", ["fuse.s3fs", "fuse.gcsfuse", "ext4", "fuse.sshfs"])
def test_a_file_system_whose_rename_is_not_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Row 39: there a change would have no commit point."""
    place = tmp_path / "a b"
    place.mkdir()
    prefix = build_bundle(place / "x-1", {"a": np.arange(3)})
    mounts = tmp_path / "mounts"
    point = str(place).replace(" ", r"\040")
    mounts.write_text(f"overlay / overlay rw 0 0\nbucket {point} {kind} rw 0 0\nproc {tmp_path}/other proc rw 0 0\n")
    monkeypatch.setattr(durable, "_MOUNTS", str(mounts))
    before = snapshot(place)
    if kind in ("ext4", "fuse.sshfs"):
        rewrite(prefix, 0.5)
        undo(prefix)
        return
    for change in (lambda: rewrite(prefix, 0.5), lambda: undo(prefix), lambda: repair(str(place))):
        with pytest.raises(UnsupportedError, match="not atomic"):
            change()
    assert snapshot(place) == before
    assert verify(prefix).whole


@pytest.mark.parametrize("error", ["EINVAL", "ENOTSUP"])
def test_a_directory_that_cannot_be_synced_is_no_failure_but_is_said(
    prefix: str, error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 41: network and FUSE file systems that have no such call."""
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.warns(DurabilityWarning, match="power loss"):
        rewrite(prefix, 0.5)
    assert run(["undo", prefix, "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["findings"]
    assert (note["id"], note["severity"]) == ("not-durable", "note")
    assert "cannot sync a directory" in note["message"]
    assert stored_best(prefix) is None
    with pytest.warns(DurabilityWarning):
        rewrite(prefix, 0.5)
    assert run(["undo", prefix]) == 0
    assert capsys.readouterr().err.startswith("note[")


def test_other_names_of_the_files_keep_the_old_bytes(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for name in os.listdir(tmp_path / "run"):
        os.link(tmp_path / "run" / name, tmp_path / "linked" / name)
    before = {name: row[3] for name, row in snapshot(tmp_path / "linked").items()}
    rewrite(prefix, 0.5)
    assert {name: row[3] for name, row in snapshot(tmp_path / "linked").items()} == before
    assert stored_best(str(tmp_path / "linked" / "x")) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("call", ["link", "replace", "fsync", "open", "mkdir"])
def test_interrupted_before_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: type[BaseException]
) -> None:
    original = getattr(os, call)
    point = 0
    while True:
        folder = tmp_path / str(point)
        folder.mkdir()
        prefix = build_bundle(folder / "x", {"a": np.arange(3)})
        kept = digests(prefix)
        calls = 0

        def interrupt(*arguments: object, _at: int = point, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == _at + 1:
                raise error
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, interrupt)
            try:
                rewrite(prefix, 0.5)
                done = True
            except error:
                done = False
        assert stored_best(prefix) in ((0.5,) if done else (None, 0.5)), point
        assert digests(prefix) == kept
        with durable.locked(folder):
            pass  # it was released
        if done:
            break
        rewrite(prefix, 0.25)
        assert stored_best(prefix) == 0.25
        assert sorted(os.listdir(folder / ".ckpt-tools")) == ["backup", "ledger.jsonl"]
        point += 1
    assert point > 0


@pytest.mark.parametrize("number", [15, 2])
def test_a_signal_while_it_waits_for_nothing(prefix: str, number: int) -> None:
    """SIGTERM and SIGINT before the rename that commits: nothing is changed, or the next run cleans up."""
    command = [sys.executable, rewrite_worker.__file__, "rewrite", prefix, "0.5"]
    done = strace.command("rename,renameat", f"signal={number}:when=2", *command)
    assert done.returncode != 0
    assert stored_best(prefix) in (None, 0.5)
    rewrite(prefix, 0.25)
    assert stored_best(prefix) == 0.25


AS_SOMEBODY = """
import os, sys
from ckpt_tools.cli import run
prefix = sys.argv[1]
reading = [["verify", prefix], ["inspect", prefix], ["repair", prefix, "--dry-run"], ["why", prefix]]
writing = [["backfill", prefix, "--value", "0.5"], ["migrate", prefix], ["undo", prefix]]
for command in (*reading, *(command + ["--dry-run"] for command in writing[:2]), ["undo", prefix, "--list"]):
    assert run(command + ["-q"]) == 0, command  # all is imported while it can be read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
assert [run(command + ["-q"]) for command in reading] == [0] * 4
assert [run(command + ["-q"]) for command in writing] == [5] * 3
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that every user may look into: pytest's own are for one user only."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chattr", "-R", "-i", folder], capture_output=True, check=False)
    shutil.rmtree(folder)


def test_another_user_may_look_and_not_write(open_to_all: Path) -> None:
    """Row 4, with a real other user."""
    _, prefix = lineage_run(open_to_all)
    before = snapshot(open_to_all)
    command = [sys.executable, "-c", AS_SOMEBODY, prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Permission denied") == 3
    assert snapshot(open_to_all) == before


def test_the_owner_is_kept(open_to_all: Path) -> None:
    """Row 42: root's rewrite of somebody's checkpoint is still theirs."""
    prefix = build_bundle(open_to_all / "x", {"a": np.arange(3)})
    for path in open_to_all.iterdir():
        os.chown(path, 1234, 5678)
        path.chmod(0o640)
    rewrite(prefix, 0.5)
    for name in ("x.index", "x.data-00000-of-00002", "x.data-00001-of-00002"):
        status = (open_to_all / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 5678, 0o640), name


def test_files_that_are_immutable(open_to_all: Path) -> None:
    """Row 40: the kernel refuses second names of them, and their replacement."""
    prefix = build_bundle(open_to_all / "x", {"a": np.arange(3)})
    if subprocess.run(["chattr", "+i", *open_to_all.iterdir()], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no immutable files")
    before = snapshot(open_to_all)
    with pytest.raises(StorageError):
        rewrite(prefix, 0.5)
    assert snapshot(open_to_all) == before


def test_a_path_longer_than_the_system_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("/" + "x" * 300, "/tmp/" + "d/" * 3000 + "x"):
        for command in ("inspect", "verify", "repair", "undo"):
            assert run([command, path]) in (3, 5), command
    assert "Traceback" not in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ names


NAMES = ["[1]", "a*b?", "100%d", "new\nline", " two  spaces ", "-rf", "ünï", "x" * 200]


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff\xfe")])
def test_a_directory_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    prefix = build_bundle(folder / "ckpt-1", {"a": np.arange(3)})
    for path in (str(folder), prefix, f"{folder}//ckpt-1"):
        assert verify(path).whole
        assert len(inspect(path).tensors) == 1
    rewrite(prefix, 0.5)
    undo(prefix)
    assert [action.kind for action in repair(str(folder)).actions] == ["rewrite-state"]
    assert latest_in(str(folder)) == prefix


# ------------------------------------------------------------------------------------------ hostile state files


def test_a_state_file_that_is_huge_or_no_file(tmp_path: Path) -> None:
    """Rows 13 and 17: nothing is read whole, and nothing waits."""
    build_bundle(tmp_path / "ckpt-1", {"a": np.arange(3)})
    state = tmp_path / "checkpoint"
    state.touch()
    os.truncate(state, 1 << 30)
    assert [run([command, str(tmp_path), "-q"]) for command in ("inspect", "verify", "backfill")] == [4, 4, 4]
    for make in (lambda: os.mkfifo(state), lambda: state.symlink_to("/dev/zero")):
        state.unlink()
        make()
        assert [run([command, str(tmp_path), "-q"]) for command in ("inspect", "verify", "backfill")] == [4, 4, 4]


def test_a_clock_that_went_back_changes_nothing(tmp_path: Path) -> None:
    """Row 43: what is newer is told by numbers alone; 1970 and 2038 are times like others."""
    for number, when in ((9, 2**31 + 10), (10, 1000), (11, 0)):
        prefix = build_bundle(tmp_path / f"ckpt-{number}", {"a": np.arange(3) + number})
        for suffix in ("index", "data-00000-of-00001"):
            os.utime(f"{prefix}.{suffix}", (when, when))
    (tmp_path / "checkpoint").write_bytes(b"")
    assert newest_whole(str(tmp_path))[0] == str(tmp_path / "ckpt-11")
    repair(str(tmp_path))
    assert latest_in(str(tmp_path)) == str(tmp_path / "ckpt-11")
    assert (tmp_path / "checkpoint").read_text().count("all_model_checkpoint_paths") == 1
    rewrite(str(tmp_path / "ckpt-9"), 0.5)
    undo(str(tmp_path / "ckpt-9"))
    assert os.stat(tmp_path / "ckpt-9.index").st_mtime == 2**31 + 10


WATCHED = """
import os, sys
folder, victim, prefix = sys.argv[1:]
touched = []
import ckpt_tools.operations.backfilling, ckpt_tools.operations.exporting
import ckpt_tools.operations.migration, ckpt_tools.operations.repairing, numpy
from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError
from ckpt_tools.analysis.newest import newest_whole
def watch(event, arguments):
    if event == "open" or event.startswith(("os.", "shutil.")):
        for part in arguments:
            if isinstance(part, (str, bytes)) and os.path.realpath(os.fsdecode(part)).startswith(victim):
                touched.append((event, part))
sys.addaudithook(watch)
def newest(path):
    try:
        newest_whole(path)
    except CkptError as error:
        return error.exit_code
    return 0
out = os.path.join(os.path.dirname(folder), "out")
codes = [run([command, folder, "-q"]) for command in ("inspect", "verify", "resume-check", "why")]
codes.append(newest(folder))
codes.append(run(["repair", folder, "--dry-run", "-q"]))
writing = [
    ["backfill", folder, "--value", "0.5", "-q"], ["backfill", prefix, "--value", "0.5", "-q"],
    ["undo", folder, "-q"], ["undo", prefix, "-q"], ["undo", prefix, "--drop-backups", "-q"],
    ["migrate", folder, "--output", out, "-q"], ["migrate", prefix, "-q"], ["undo", prefix, "-q"],
    ["repair", folder, "-q"], ["repair", prefix, "-q"],
]
codes += [run(command) for command in writing]
assert 70 not in codes, codes
assert not touched, touched
print(*codes)
"""


def lineage_run(directory: Path) -> tuple[Path, str]:
    """An experiment of the Keras port, whose ``checkpoint`` file a test may change; its best line and its prefix."""
    sample = pick("tf2.10")
    experiment = directory / "best_model" / sample.experiment
    shutil.copytree(sample.path, experiment)
    prefix = sample.prefix_in(experiment)
    return Path(prefix).parent, prefix


def watched(folder: Path, victim: Path, prefix: str) -> list[int]:
    """The exit codes of all commands, none of which may open, list, rename or remove anything of the victim's."""
    command = [sys.executable, "-c", WATCHED, folder, victim, prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.splitlines()[-1].split()))


@pytest.mark.parametrize("stored", ["../victim/keep", "sub/../../victim/keep", "link/keep", "{victim}/keep"])
@pytest.mark.parametrize("field", ["model_checkpoint_path", "all_model_checkpoint_paths"])
def test_a_hostile_state_file_leads_nowhere(tmp_path: Path, stored: str, field: str) -> None:
    """Rows 18 to 20: an audit hook sees every file that any command opens, lists, renames or removes."""
    folder, prefix = lineage_run(tmp_path)
    victim = folder.parent / "victim"
    victim.mkdir()
    build_bundle(victim / "keep", {"a": np.arange(3)})
    before = snapshot(victim)
    (folder / "sub").mkdir()
    (folder / "link").symlink_to(victim)
    lines = [f'{field}: "{stored.format(victim=victim)}"']
    if field != "model_checkpoint_path":
        lines.append(f'model_checkpoint_path: "{os.path.basename(prefix)}"')
    (folder / "checkpoint").write_text("\n".join(lines) + "\n")
    codes = watched(folder, victim, prefix)
    assert codes[5] == 0
    assert codes[-2:] == [0, 0]
    if field == "model_checkpoint_path":
        expected = 3 if stored.startswith("{") else UnsafeError.exit_code
        assert codes[:4] == [expected] * 4
    assert snapshot(victim) == before
    assert latest_in(str(folder)) == prefix


@pytest.mark.parametrize("name", ["", "ledger.jsonl", "pending.json", "backup"])
def test_a_link_in_the_place_of_what_is_kept_leads_nowhere(tmp_path: Path, name: str) -> None:
    folder, prefix = lineage_run(tmp_path)
    victim = folder.parent / "victim"
    victim.mkdir()
    for file in ("ledger.jsonl", "pending.json", os.path.basename(prefix) + ".index"):
        (victim / file).write_text('{"id": "x", "checkpoint": "keep", "moved": [], "created": [], "displaced": []}\n')
    (victim / "backup").mkdir()
    before = snapshot(victim)
    state = folder / ".ckpt-tools"
    if name:
        state.mkdir()
        (state / name).symlink_to(victim / name)
    else:
        state.symlink_to(victim)
    watched(folder, victim, prefix)
    assert snapshot(victim) == before
    with pytest.raises(UnsafeError, match="link"):
        rewrite(prefix, 0.5)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("suffix", ["data-00000-of-00001", "index"])
def test_files_that_are_links_to_another_place(tmp_path: Path, suffix: str, relative: bool) -> None:
    """As download caches keep them; what they lead to is never written."""
    (tmp_path / "run").mkdir()
    (tmp_path / "store").mkdir()
    prefix = build_bundle(tmp_path / "run" / "x", {"a": np.arange(3)})
    stored, linked = tmp_path / "store" / "blob", Path(f"{prefix}.{suffix}")
    linked.rename(stored)
    linked.symlink_to("../store/blob" if relative else stored)
    before, blob = digests(prefix), snapshot(tmp_path / "store")
    rewrite(prefix, 0.25)
    rewrite(prefix, 0.5)
    assert (stored_best(prefix), digests(prefix)) == (0.5, before)
    undo(prefix)
    undo(prefix)
    assert (stored_best(prefix), digests(prefix)) == (None, before)
    assert snapshot(tmp_path / "store") == blob
    assert sorted(os.listdir(tmp_path / "run")) == [".ckpt-tools", "x.data-00000-of-00001", "x.index"]
