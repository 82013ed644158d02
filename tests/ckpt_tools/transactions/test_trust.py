"""A directory that came from somebody else: its .ckpt-tools leads nowhere out of it, and does no harm in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle, contents, rewrite, stored_best

from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError, CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.runs.ledger import RewriteEntry, history, read_ledger
from ckpt_tools.transactions import drop_backups, recover, undo

LEDGER, PENDING, BACKUP = ".ckpt-tools/ledger.jsonl", ".ckpt-tools/pending.json", ".ckpt-tools/backup"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    return build_bundle(tmp_path / "run" / "x", {"a": np.arange(3), "b": np.arange(50.0)})


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Another directory, with files of every name that a change could touch."""
    folder = tmp_path / "victim"
    folder.mkdir()
    for name in ("x.index", "x.data-00000-of-00001", "x.data-00000-of-00002", "x.data-00001-of-00002", "secret"):
        (folder / name).write_bytes(b"precious " + name.encode())
    return folder


def folder(prefix: str) -> Path:
    return Path(prefix).parent


COMMANDS: list[Callable[[str], list[str]]] = [
    lambda prefix: ["undo", prefix],
    lambda prefix: ["undo", prefix, "--drop-backups"],
    lambda prefix: ["undo", os.path.dirname(prefix)],
    lambda prefix: ["repair", os.path.dirname(prefix)],
    lambda prefix: ["backfill", prefix, "--value", "0.5"],
]


def nothing_happens(prefix: str, victim: Path, code: int = 4) -> None:
    """No command touches anything, here or elsewhere."""
    before, elsewhere = contents(folder(prefix)), contents(victim)
    for command in COMMANDS:
        run([*command(prefix), "-q"])
        assert contents(victim) == elsewhere, command(prefix)
        assert contents(folder(prefix)) == before, command(prefix)
    assert run(["undo", prefix, "-q"]) == code


def edited(prefix: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the last entry of the ledger."""
    path = folder(prefix) / LEDGER
    *lines, last = path.read_text().splitlines()
    entry = json.loads(last)
    change(entry)
    path.write_text("\n".join([*lines, json.dumps(entry)]) + "\n")


def test_a_backup_that_is_a_link_out_of_the_directory(prefix: str, victim: Path) -> None:
    backup = Path(rewrite(prefix, 0.5).backup)
    shutil.copy(backup / "x.index", victim / "x.index")  # so that the digest is right
    shutil.rmtree(backup)
    backup.symlink_to(victim)
    nothing_happens(prefix, victim)


@pytest.mark.parametrize("name", ["x.index", "x.data-00000-of-00001"])
def test_a_kept_file_that_is_a_link_out_of_the_directory(prefix: str, victim: Path, name: str) -> None:
    backup = Path(rewrite(prefix, 0.5).backup)
    shutil.copy(backup / name, victim / name)
    (backup / name).unlink()
    (backup / name).symlink_to(victim / name)
    elsewhere, before = contents(victim), stored_best(prefix)
    with pytest.raises(CkptError):
        undo(prefix)
    assert (contents(victim), stored_best(prefix)) == (elsewhere, before)


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "an id that is a path": lambda entry: entry.update(id="../../../victim"),
    "an id of its own": lambda entry: entry.update(id="ID1"),
    "another file of the directory": lambda entry: entry["added"][0].update(name="train.py"),
    "an original that is another file": lambda entry: entry["links"][0].update(original="train.py"),
    "a path": lambda entry: entry["added"][0].update(name="../victim/secret"),
    "a checkpoint that is a path": lambda entry: entry.update(checkpoint="../victim/x"),
    "something displaced that it did not make": lambda entry: entry.update(displaced=["train.py"]),
    "no digest": lambda entry: entry.update(index_before="x"),
    "names of one more": lambda entry: entry["links"].append({"name": "y.data-00000-of-00002", "original": "y"}),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("where", [LEDGER, PENDING])
def test_names_that_no_change_of_ours_gives(
    prefix: str, victim: Path, forged: Callable[[dict[str, Any]], object], where: str
) -> None:
    rewrite(prefix, 0.5)
    (folder(prefix) / "train.py").write_bytes(b"the user's own")
    edited(prefix, forged)
    if where == PENDING:
        (folder(prefix) / PENDING).write_text((folder(prefix) / LEDGER).read_text())
        (folder(prefix) / LEDGER).unlink()
    before, elsewhere = contents(folder(prefix)), contents(victim)
    for command in (undo, drop_backups, recover):
        if command is recover and where == LEDGER:
            continue
        with pytest.raises((UnsafeError, CorruptError)):
            command(prefix)
    assert (contents(folder(prefix)), contents(victim)) == (before, elsewhere)


def rotted(name: str) -> str:
    return name[:-1] + chr(ord(name[-1]) ^ 1)


def test_an_entry_whose_keys_have_rotted_takes_nothing_back_by_half(prefix: str) -> None:
    before = contents(folder(prefix))
    rewrite(prefix, 0.5)
    line = (folder(prefix) / LEDGER).read_text()
    shutil.copytree(folder(prefix), folder(prefix).with_name("kept"))
    _, *keys = json.loads(line)  # without its version an entry is one of version 1, and complete
    for name in (*keys, "name", "original", "sha256"):
        shutil.rmtree(folder(prefix))
        shutil.copytree(folder(prefix).with_name("kept"), folder(prefix))
        (folder(prefix) / LEDGER).write_text(line.replace(f'"{name}": ', f'"{rotted(name)}": '))
        changed = contents(folder(prefix))
        with pytest.raises(CkptError):
            undo(prefix)
        assert contents(folder(prefix)) == changed, name
    (folder(prefix) / LEDGER).write_text(line)
    undo(prefix)
    assert {name: what for name, what in contents(folder(prefix)).items() if name != LEDGER} == before


def test_a_journal_whose_digests_fit_nothing_is_refused(prefix: str) -> None:
    rewrite(prefix, 0.5)
    edited(prefix, lambda entry: entry.update(index_before="0" * 64, index_after="1" * 64))
    shutil.move(folder(prefix) / LEDGER, folder(prefix) / PENDING)
    (folder(prefix) / LEDGER).write_text("")
    before = contents(folder(prefix))
    for command in (recover, drop_backups):
        with pytest.raises(CorruptError, match="interrupted"):
            command(prefix)
    assert contents(folder(prefix)) == before


@pytest.mark.parametrize(
    "line", ["[" * 200_000, "{}", "[]", "5", '{"id": 5}', '{"id": "x", "undoes": {}}', '{"id": 1e999}']
)
@pytest.mark.parametrize("where", [LEDGER, PENDING])
def test_lines_that_are_no_entries(prefix: str, victim: Path, line: str, where: str) -> None:
    rewrite(prefix, 0.5)
    (folder(prefix) / where).write_text(line + "\n")
    nothing_happens(prefix, victim, code=1)


def test_entries_of_a_later_version_are_left_alone(prefix: str) -> None:
    rewrite(prefix, 0.5)
    edited(prefix, lambda entry: entry.update(schema_version=99))
    with pytest.raises(UnsupportedError, match="later"):
        undo(prefix)


def test_a_ledger_that_is_another_name_of_a_file_elsewhere(prefix: str, victim: Path) -> None:
    (folder(prefix) / ".ckpt-tools").mkdir()
    (victim / "secret").write_bytes(b"")
    os.link(victim / "secret", folder(prefix) / LEDGER)
    rewrite(prefix, 0.5)
    assert (victim / "secret").read_bytes() == b""
    assert len(read_ledger(str(folder(prefix)))) == 1


@pytest.mark.parametrize("what", ["ledger.jsonl", "pending.json", "backup"])
def test_a_pipe_in_the_place_of_what_is_kept(prefix: str, what: str) -> None:
    (folder(prefix) / ".ckpt-tools").mkdir()
    os.mkfifo(folder(prefix) / ".ckpt-tools" / what)
    with pytest.raises(UnsafeError):
        rewrite(prefix, 0.5)
    assert stored_best(prefix) is None


SWAPPED = [".ckpt-tools", BACKUP, "each backup"]


@pytest.mark.parametrize("undoing", [False, True])
@pytest.mark.parametrize("swapped", SWAPPED)
def test_somebody_who_puts_links_there_meanwhile(
    prefix: str, victim: Path, monkeypatch: pytest.MonkeyPatch, undoing: bool, swapped: str
) -> None:
    """Before whichever call a directory of what is kept is replaced by a link: nothing elsewhere is touched."""
    for point in range(SWAPPED.index(swapped), 400, len(SWAPPED)):
        shutil.rmtree(folder(prefix))
        folder(prefix).mkdir()
        build_bundle(prefix, {"a": np.arange(3), "b": np.arange(50.0)})
        if undoing:
            rewrite(prefix, 0.5)
        elsewhere = contents(victim)
        reached = disturbed(
            lambda: undo(prefix) if undoing else rewrite(prefix, 0.5),
            point,
            lambda: swap(folder(prefix), swapped, victim),
            monkeypatch,
        )
        assert contents(victim) == elsewhere, point
        if not reached:
            break
    assert point > 20


def swap(directory: Path, what: str, victim: Path) -> None:
    """Put links to another place where the directories of what is kept were."""
    place = directory / (BACKUP if what == "each backup" else what)
    for path in list(place.iterdir()) if what == "each backup" and place.is_dir() else [place]:
        if path.is_dir() and not path.is_symlink():
            path.rename(directory / f"swapped-{path.name}")
            path.symlink_to(victim)


def disturbed(
    command: Callable[[], object], point: int, disturb: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Run a command, and something else before its N-th call that opens or changes files; whether it had so many."""
    calls = 0

    def counted(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == point + 1:
                disturb()
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch, contextlib.suppress(CkptError):
        for name in ("link", "replace", "unlink", "fsync", "mkdir", "open", "rmdir"):
            patch.setattr(os, name, counted(name))
        command()
    return calls > point


# ------------------------------------------------------------------------------------------------ version 1


def as_version_1(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry as the first version wrote it: files told by their places in lists."""
    moved = [link["original"] for link in entry["links"]]
    created = [each["name"] for each in (*entry["links"], *entry["added"])]
    kept = (
        "id",
        "time",
        "tool",
        "action",
        "checkpoint",
        "evidence",
        "changes",
        "index_before",
        "index_after",
        "displaced",
    )
    return {"schema_version": 1, **{name: entry[name] for name in kept}, "moved": moved, "created": created}


def test_ledgers_of_version_1_stay_readable(prefix: str) -> None:
    before = contents(folder(prefix))
    rewrite(prefix, 0.25)
    rewrite(prefix, 0.5)
    lines = [json.dumps(as_version_1(json.loads(line))) for line in (folder(prefix) / LEDGER).read_text().splitlines()]
    (folder(prefix) / LEDGER).write_text("\n".join(lines) + "\n")
    first, second = history(prefix)
    assert isinstance(second, RewriteEntry)
    assert [link.original for link in second.links] == ["x.data-00000-of-00002", "x.data-00001-of-00002"]
    assert [added.name for added in second.added] == ["x.data-00002-of-00003"]
    assert run(["why", prefix, "-q"]) == 0
    undo(prefix, to=first.id)
    assert {name: digest for name, digest in contents(folder(prefix)).items() if name != LEDGER} == before


def test_a_journal_of_version_1_is_brought_to_its_end(prefix: str) -> None:
    before = contents(folder(prefix))
    backup = Path(rewrite(prefix, 0.5).backup)
    (line,) = (folder(prefix) / LEDGER).read_text().splitlines()
    (folder(prefix) / PENDING).write_text(json.dumps(as_version_1(json.loads(line))))
    (folder(prefix) / LEDGER).unlink()
    (backup / "x.data-00000-of-00001").rename(f"{prefix}.data-00000-of-00001")
    ended = recover(prefix)
    assert ended is not None
    assert ended.stands
    assert stored_best(prefix) == 0.5
    (entry,) = history(prefix)
    undo(prefix)
    assert {name: digest for name, digest in contents(folder(prefix)).items() if name != LEDGER} == before
    assert entry.action == "backfill"
