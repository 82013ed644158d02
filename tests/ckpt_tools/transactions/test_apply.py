"""A rewrite changes what was planned and nothing else, at a cost that does not depend on the checkpoint's size."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import (
    BEST_KEY,
    OF_EACH_LINEAGE,
    Sample,
    build_bundle,
    digests,
    pick,
    rewrite,
    snapshot,
    stored_best,
)

from ckpt_tools import __version__
from ckpt_tools.errors import BusyError, CorruptError, NotFoundError, StorageError
from ckpt_tools.format.object_graph import decode_graph
from ckpt_tools.readers import Bundle
from ckpt_tools.runs.ledger import read_ledger
from ckpt_tools.transactions import apply, plan_scalar

each = pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)


@pytest.fixture
def prefix(sample: Sample, copy: Callable[..., Path]) -> str:
    return sample.prefix_in(copy(sample))


def folder(prefix: str) -> str:
    return os.path.dirname(prefix)


def test_every_other_tensor_keeps_its_bits(prefix: str) -> None:
    before = digests(prefix)
    rewrite(prefix, 0.25)
    assert digests(prefix) == before
    assert stored_best(prefix) == 0.25


@each
def test_the_object_graph_gains_one_variable_and_keeps_the_rest(prefix: str, sample: Sample) -> None:
    with Bundle(prefix) as bundle:
        before = bundle.graph_bytes if bundle.graph else None
    rewrite(prefix, 0.25)
    with Bundle(prefix) as bundle:
        if before is None:
            assert sample.name_based
            assert bundle.graph is None
            return
        old, new = decode_graph(before), decode_graph(bundle.graph_bytes)
        assert new[1:-1] == old[1:]
        assert new[0].children == {**old[0].children, "best_metric": len(old)}
        assert bundle.graph is not None
        found = bundle.graph.variable("best_metric")
        assert found is not None
        assert (found.key, found.node) == (BEST_KEY, len(old))


@each
def test_the_data_is_linked_not_copied(prefix: str) -> None:
    old = os.stat(f"{prefix}.data-00000-of-00001")
    used = sum(os.stat(path).st_blocks for path in Path(folder(prefix)).iterdir())
    rewrite(prefix, 0.25)
    new = os.stat(f"{prefix}.data-00000-of-00002")
    assert (new.st_ino, new.st_mtime_ns) == (old.st_ino, old.st_mtime_ns)
    # Beside the links: one small shard, one index, one ledger.
    seen = {}
    for where, _, names in os.walk(folder(prefix)):
        for status in (os.stat(os.path.join(where, name)) for name in names):
            seen[status.st_ino] = status.st_blocks
    assert sum(seen.values()) - used <= 4 * 8
    assert os.stat(f"{prefix}.data-00001-of-00002").st_size < 20_000


@each
def test_the_directory_holds_the_new_set_and_the_backup_the_old_one(prefix: str) -> None:
    before = snapshot(folder(prefix))
    name = os.path.basename(prefix)
    applied = rewrite(prefix, 0.25)
    after = snapshot(folder(prefix))
    backup = os.path.relpath(applied.backup, folder(prefix))
    moved = {f"{name}.index", f"{name}.data-00000-of-00001"}
    created = {f"{name}.index", f"{name}.data-00000-of-00002", f"{name}.data-00001-of-00002"}
    kept = {f"{backup}/{file}" for file in moved} | {".ckpt-tools/ledger.jsonl"}
    assert set(after) == set(before) - moved | created | kept
    for file in moved:
        assert after[f"{backup}/{file}"] == before[file], "the original itself, not a copy"
    for file in set(before) - moved:
        assert after[file] == before[file]


@each
def test_the_ledger_says_what_why_and_by_which_version(prefix: str) -> None:
    applied = rewrite(prefix, 0.25, measured=0.25, note="é")
    (entry,) = read_ledger(folder(prefix))
    assert entry.id == applied.id
    assert entry.tool == f"ckpt-tools {__version__}"
    assert entry.action == "backfill"
    assert entry.evidence == {"measured": 0.25, "note": "é"}
    assert entry.changes[-1]["value"] in (0.25, "with the child 'best_metric'")
    assert {change["key"] for change in entry.changes} >= {BEST_KEY} or entry.changes[0]["key"] == "best_metric"
    assert len(Path(folder(prefix), ".ckpt-tools", "ledger.jsonl").read_text().splitlines()) == 1


def test_a_plan_is_json_and_writes_nothing(prefix: str) -> None:
    before = snapshot(folder(prefix))
    with Bundle(prefix) as bundle:
        made = plan_scalar(bundle, key="k", name="best_metric", value=0.5, reason="test", evidence={"a": 1})
    document = json.loads(json.dumps(made.to_json()))
    assert document["shards"] == [1, 2]
    assert document["evidence"] == {"a": 1}
    assert snapshot(folder(prefix)) == before


@each
def test_again_and_again(prefix: str) -> None:
    before = digests(prefix)
    for number, value in enumerate((0.1, 0.2, 0.3), start=2):
        rewrite(prefix, value)
        assert stored_best(prefix) == np.float32(value)
        assert digests(prefix) == before
        assert len(list(Path(folder(prefix)).glob("*.data-*"))) == number
    assert len(read_ledger(folder(prefix))) == 3


def test_several_shards(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    rewrite(prefix, 0.5)
    with Bundle(prefix) as bundle:
        assert bundle.header.num_shards == 2
        assert bundle.entries["best_metric"].shard == 1
    rewrite(prefix, 0.75)
    assert stored_best(prefix) == 0.75


def test_a_prefix_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_bundle(tmp_path / "x", {"a": np.arange(3)})
    monkeypatch.chdir(tmp_path)
    rewrite("x", 0.5)
    assert stored_best("x") == 0.5


def test_nan_and_negative_zero_are_written_bit_exactly(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    for value in (float("nan"), -0.0, float("inf"), 1e-45):
        rewrite(prefix, value)
        with Bundle(prefix) as bundle:
            assert bundle.read("best_metric").tobytes() == np.float32(value).tobytes()


def test_another_checkpoint_of_the_directory_is_left_alone(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "ckpt-1", {"a": np.arange(3)})
    build_bundle(tmp_path / "ckpt-10", {"a": np.arange(3)})
    others = {name: row for name, row in snapshot(tmp_path).items() if name.startswith("ckpt-10")}
    rewrite(prefix, 0.5)
    assert {name: row for name, row in snapshot(tmp_path).items() if name.startswith("ckpt-10")} == others


def test_the_mode_is_kept(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    Path(f"{prefix}.index").chmod(0o640)
    rewrite(prefix, 0.5)
    for name in ("index", "data-00001-of-00002"):
        assert Path(f"{prefix}.{name}").stat().st_mode & 0o777 == 0o640


# ------------------------------------------------------------------------------------ what is in the way


def test_a_foreign_file_with_the_name_of_a_new_shard_is_kept(prefix: str) -> None:
    foreign = Path(f"{prefix}.data-00001-of-00002")
    foreign.write_bytes(b"of another save")
    applied = rewrite(prefix, 0.25)
    assert Path(applied.backup, foreign.name).read_bytes() == b"of another save"
    assert stored_best(prefix) == 0.25


def test_no_hard_links(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    before = digests(prefix)
    monkeypatch.setattr(os, "link", refuse)
    applied = rewrite(prefix, 0.25)
    assert digests(prefix) == before
    assert stored_best(prefix) == 0.25
    assert os.listdir(applied.backup)


@each
def test_a_damaged_or_incomplete_checkpoint_is_not_rewritten(prefix: str, sample: Sample) -> None:
    data = Path(f"{prefix}.data-00000-of-00001")
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    before = snapshot(folder(prefix))
    with pytest.raises(CorruptError):
        rewrite(prefix, 0.25)
    assert snapshot(folder(prefix)) == before, sample.id
    data.unlink()
    with pytest.raises((NotFoundError, CorruptError)):
        rewrite(prefix, 0.25)


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_checkpoint_that_was_written_since_the_plan_was_made(tmp_path: Path, suffix: str) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    with Bundle(prefix) as bundle:
        made = plan_scalar(bundle, key="k", name="k", value=0.5, reason="test", evidence={})
    os.utime(f"{prefix}.{suffix}", ns=(1, 1))
    before = snapshot(tmp_path)
    with pytest.raises(BusyError, match="changed"):
        apply(made)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("call", ["link", "replace", "fsync", "write", "mkdir"])
def test_whatever_the_system_refuses_before_the_commit_the_checkpoint_is_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    with Bundle(prefix) as bundle:
        made = plan_scalar(bundle, key="k", name="k", value=0.5, reason="test", evidence={})
    before = snapshot(tmp_path)
    original = getattr(os, call)
    reached = 0
    while True:
        calls = 0

        def fail(*arguments: object, _fail_at: int = reached, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == _fail_at + 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                apply(made)
                break
            except StorageError as error:
                if error.hint and "the change is made" in error.hint:
                    break
        assert snapshot(tmp_path) == before, (call, reached)
        assert sorted(os.listdir(tmp_path)) == sorted(before), (call, reached)
        reached += 1
    assert reached > 0
    assert stored_best(prefix) is None
    with Bundle(prefix) as bundle:
        assert bundle.read("k") == 0.5


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_takes_back_what_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    before = snapshot(tmp_path)
    names = sorted(os.listdir(tmp_path))

    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "statvfs", os.statvfs)
    monkeypatch.setattr("ckpt_tools.transactions.commit._read_back", interrupt)
    with pytest.raises(error):
        rewrite(prefix, 0.5)
    assert snapshot(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == names


def test_a_directory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    before = snapshot(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(StorageError, match="Permission denied") as caught:
        rewrite(prefix, 0.5)
    assert "permissions" in (caught.value.hint or "")
    assert snapshot(tmp_path) == before


def test_the_latest_rewrite_of_the_same_second_has_an_id_of_its_own(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    ids = {rewrite(prefix, value).id for value in (0.5, 0.25, 0.5)}
    assert len(ids) == 3
    assert pick("tf1.15").name_based
