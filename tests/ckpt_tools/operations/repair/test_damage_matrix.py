"""Each damage that a directory of checkpoints can suffer, and what `repair` does about it.

Whatever it does: what was whole stays byte for byte, nothing that was there is gone (it may be in the backup), the
damaged tensors and only these are lost, and a second repair finds nothing to do.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, contents, digests, rewrite

from ckpt_tools.errors import CkptError, NotFoundError, UnsupportedError
from ckpt_tools.findings import exit_code
from ckpt_tools.format.state import State, decode_state
from ckpt_tools.operations.repairing import REBUILD_INDEX, REWRITE_STATE, SALVAGE, SET_ASIDE, repair
from ckpt_tools.readers import Bundle
from ckpt_tools.readers.location import latest_in
from ckpt_tools.transactions import undo

HOUR = 3600.0


def state(latest: str, *every: str) -> str:
    lines = [f'model_checkpoint_path: "{latest}"', *(f'all_model_checkpoint_paths: "{name}"' for name in every)]
    return "\n".join(lines) + "\n"


def make_run(directory: Path) -> Path:
    """Three checkpoints; the times of their files say nothing about their order."""
    directory.mkdir(parents=True, exist_ok=True)
    for step in (2, 9, 10):
        rows = np.arange(200, dtype=np.float32) + step
        tensors = {"emb": rows, "emb/Adam": rows + 1, "emb/Adam_1": rows + 2, "beta1_power": rows[:1]}
        build_bundle(directory / f"ckpt-{step}", {**tensors, "kernel": rows * 2, "step": np.int64([step])})
    for name in ("ckpt-10.index", "ckpt-10.data-00000-of-00001"):
        os.utime(directory / name, (1, 1))
    (directory / "checkpoint").write_text(state("ckpt-10", "ckpt-2", "ckpt-9", "ckpt-10"))
    return directory


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def damage_tensor(directory: Path, name: str, key: str) -> None:
    with Bundle(str(directory / name)) as bundle:
        entry = bundle.entries[key]
    flip(directory / f"{name}.data-00000-of-00001", entry.offset)


def write_state(text: str | bytes) -> Callable[[Path], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda directory: (directory / "checkpoint").write_bytes(data) and None


def remove(*names: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return damage


def make(name: str, *parts: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (directory / name).mkdir()
        for part in parts:
            (directory / name / part).write_bytes(b"unfinished")

    return damage


def put(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes(b"unfinished") and None


def torn_overwrite(directory: Path) -> None:
    """The data of another save under the index of this one, as a killed overwrite leaves it."""
    shutil.copy(directory / "ckpt-2.data-00000-of-00001", directory / "ckpt-10.data-00000-of-00001")


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda directory: os.truncate(directory / name, size)


def copy_without_index(directory: Path) -> None:
    """The same data as ckpt-10 under another prefix, whose index is lost."""
    shutil.copy(directory / "ckpt-10.data-00000-of-00001", directory / "best-11.data-00000-of-00001")


def copy_with_torn_index(directory: Path) -> None:
    copy_without_index(directory)
    (directory / "best-11.index").write_bytes(b"")


@dataclass(frozen=True)
class Case:
    """``actions`` are the expected kinds; ``latest`` is what the ``checkpoint`` file names in the end."""

    name: str
    damage: Callable[[Path], object]
    actions: tuple[str, ...] = ()
    latest: str | None = "ckpt-10"
    path: str = "."
    lost: tuple[str, ...] = ()
    code: int = 0
    findings: tuple[str, ...] = field(default=())


BAD_10 = ("ckpt-10", "emb")
ADAM = ("beta1_power", "emb/Adam", "emb/Adam_1")
CASES = [
    Case("nothing", lambda _: None),
    # The file ``checkpoint``.
    Case("state-absent", remove("checkpoint"), (REWRITE_STATE,)),
    Case("state-absent-prefix-named", remove("checkpoint"), (), None, "ckpt-9"),
    Case("state-empty", write_state(""), (REWRITE_STATE,)),
    Case("state-torn", write_state(state("ckpt-9", "ckpt-9")[:40]), (REWRITE_STATE,), "ckpt-9"),
    Case("state-torn-in-its-first-line", write_state(state("ckpt-9", "ckpt-9")[:28]), (REWRITE_STATE,)),
    Case("state-garbage", write_state(b"\0\1\2 garbage"), (REWRITE_STATE,)),
    Case("state-not-utf8", write_state(b'model_checkpoint_path: "\xff\xfe"\n'), (REWRITE_STATE,)),
    Case("state-huge", write_state(b"#" * (1 << 21)), (REWRITE_STATE,)),
    Case(
        "state-moved-directory", write_state(state("/gone/run/ckpt-9", "/gone/run/ckpt-9")), (REWRITE_STATE,), "ckpt-9"
    ),
    Case("state-latest-gone", write_state(state("ckpt-11", "ckpt-2", "ckpt-11")), (REWRITE_STATE,), "ckpt-2"),
    Case("state-all-gone", write_state(state("ckpt-11", "ckpt-11")), (REWRITE_STATE,)),
    Case("state-all-of-another-family-gone", write_state(state("model-11", "model-11")), (), None),
    Case("state-older-one-gone", write_state(state("ckpt-9", "ckpt-1", "ckpt-9")), (REWRITE_STATE,), "ckpt-9"),
    Case("state-hostile", write_state(state("../victim/keep", "../victim/keep")), (REWRITE_STATE,)),
    Case("state-hostile-list", write_state(state("ckpt-9", "../../x", "ckpt-9")), (REWRITE_STATE,), "ckpt-9"),
    Case("state-older-is-newest", write_state(state("ckpt-2", "ckpt-2")), (), "ckpt-2"),
    Case(
        "state-latest-damaged",
        lambda d: damage_tensor(d, *BAD_10),
        (REWRITE_STATE,),
        "ckpt-9",
        findings=("damaged",),
    ),
    # What killed saves left.
    Case("temp-folder", make("ckpt-11_temp", "part-00000-of-00001.data-00000-of-00001"), (SET_ASIDE,)),
    Case("temp-folder-empty", make("ckpt-11_temp"), (SET_ASIDE,)),
    Case("temp-folder-of-tf1", make(f"model.ckpt_temp_{'0f' * 16}", "part-00000-of-00001.index"), (SET_ASIDE,)),
    Case("temp-folder-of-somebody", make("my_temp", "thesis.tex")),
    Case("tempstate", put("ckpt-11.index.tempstate17795479757"), (SET_ASIDE,)),
    Case("state-tmp", put(f"checkpoint.tmp{'0a' * 16}"), (SET_ASIDE,)),
    Case("state-tmp-of-ours", put("checkpoint.tmp-0a1b2c3d"), (SET_ASIDE,)),
    Case("temporary-of-somebody", put("notes.tmp")),
    Case(
        "several",
        lambda d: (make("ckpt-11_temp")(d), put("x.index.tempstate1")(d), write_state("")(d)),
        (REWRITE_STATE, SET_ASIDE),
    ),
    # Damaged checkpoints.
    Case("named-bit-rot", lambda d: damage_tensor(d, *BAD_10), (SALVAGE, REWRITE_STATE), "ckpt-9", "ckpt-10", ("emb",)),
    Case(
        "named-by-its-data-file",
        lambda d: damage_tensor(d, "ckpt-9", "kernel"),
        (SALVAGE, REWRITE_STATE),
        "ckpt-10",
        "ckpt-9.data-00000-of-00001",
        ("kernel",),
    ),
    Case(
        "a-moment-takes-the-others-along",
        lambda d: damage_tensor(d, "ckpt-9", "emb/Adam_1"),
        (SALVAGE, REWRITE_STATE),
        "ckpt-10",
        "ckpt-9",
        ADAM,
    ),
    Case(
        "the-step-of-adam-takes-all-moments-along",
        lambda d: damage_tensor(d, "ckpt-9", "beta1_power"),
        (SALVAGE, REWRITE_STATE),
        "ckpt-10",
        "ckpt-9",
        ADAM,
    ),
    Case(
        "cut-off",
        cut("ckpt-9.data-00000-of-00001", 1000),
        (SALVAGE, REWRITE_STATE),
        "ckpt-10",
        "ckpt-9",
        (*ADAM, "kernel", "step"),
    ),
    Case(
        "none-is-whole",
        lambda d: [damage_tensor(d, f"ckpt-{n}", "kernel") for n in (2, 9, 10)],
        (SALVAGE, SALVAGE, SALVAGE),
        lost=("kernel", "kernel", "kernel"),
        code=1,
    ),
    Case(
        "nothing-left",
        lambda d: cut("ckpt-9.data-00000-of-00001", 0)(d),
        (REWRITE_STATE,),
        "ckpt-10",
        "ckpt-9",
        findings=("damaged", "nothing-to-salvage"),
    ),
    Case("torn-overwrite", torn_overwrite, (REWRITE_STATE,), "ckpt-9", findings=("damaged",)),
    Case("index-emptied", cut("ckpt-10.index", 0), (REWRITE_STATE,), "ckpt-9", findings=("damaged",)),
    Case("index-gone", remove("ckpt-10.index"), (REWRITE_STATE,), "ckpt-9", findings=("damaged",)),
    Case("data-gone", remove("ckpt-10.data-00000-of-00001"), (REWRITE_STATE,), "ckpt-9", findings=("damaged",)),
    Case("index-from-a-copy", copy_without_index, (REBUILD_INDEX,)),
    Case("torn-index-from-a-copy", copy_with_torn_index, (REBUILD_INDEX,)),
    Case(
        "index-does-not-fit",
        lambda d: (copy_without_index(d), flip(d / "best-11.data-00000-of-00001", 5)),
        findings=("damaged",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damage(case: Case, tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run")
    case.damage(directory)
    victim = tmp_path / "victim"
    victim.mkdir()
    build_bundle(victim / "keep", {"a": np.arange(3)})
    outside = contents(victim)
    path = str(directory / case.path)
    before = contents(directory)
    values = whole_tensors(directory)
    now = time.time() + HOUR

    planned = repair(path, dry_run=True, now=now)
    assert contents(directory) == before, "a dry run writes nothing"
    done = repair(path, now=now)

    assert [action.kind for action in planned.actions] == [action.kind for action in done.actions]
    assert [action.kind for action in done.actions] == list(case.actions)
    assert [lost.key for lost in done.lost] == sorted(case.lost)
    assert exit_code(done.findings) == case.code
    if case.findings:
        assert [finding.id for finding in done.findings] == list(case.findings)
    after = contents(directory)
    assert not Counter(before.values()) - Counter(after.values()), "a file is gone"
    for name, digest in before.items():
        assert after.get(name) == digest or name == "checkpoint" or name.endswith(".index") or is_leftover(name), name
    found = whole_tensors(directory)
    for name, tensors in values.items():
        assert found[name] == tensors, f"{name} is not what it was"
    for action in done.actions:
        if action.kind == SALVAGE:
            source = action.path.removesuffix("-salvaged")
            lost = {gone.key for gone in done.lost if gone.prefix == source}
            assert found[os.path.basename(action.path)] == {
                k: v for k, v in all_tensors(source).items() if k not in lost
            }
    if case.latest is None:
        assert ("checkpoint" in after) == ("checkpoint" in before)
    else:
        assert latest_in(str(directory)) == str(directory / case.latest)
    assert contents(victim) == outside
    assert repair(path, now=now).actions == (), "the second repair has nothing to do"
    assert contents(directory) == after


def is_leftover(name: str) -> bool:
    return "temp" in name or ".tmp" in name


def all_tensors(prefix: str) -> dict[str, str]:
    """The digests of what can be read of a checkpoint."""
    found = {}
    with Bundle(prefix) as bundle:
        for key in bundle.tensors:
            try:
                found[key] = bundle.digest(key)
            except CkptError:
                continue
    return found


def whole_tensors(directory: Path) -> dict[str, dict[str, str]]:
    """The digests of the tensors of every whole checkpoint of a directory, damaged ones left out."""
    found = {}
    for index in sorted(directory.glob("*.index")):
        prefix = str(index.with_suffix(""))
        try:
            with Bundle(prefix) as bundle:
                if not [finding for finding in bundle.verify() if finding.severity == "damage"]:
                    found[index.stem] = digests(prefix)
        except CkptError:
            continue
    return found


def read(directory: Path) -> State:
    return decode_state((directory / "checkpoint").read_bytes())


def test_without_a_list_only_the_newest_is_given_to_the_savers_that_delete(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    (directory / "checkpoint").write_text("")
    repair(str(directory))
    assert read(directory) == State("ckpt-10", ("ckpt-10",))


def test_a_field_that_tensorflow_does_not_know_goes(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    text = state("ckpt-9", "ckpt-2", "ckpt-9")
    (directory / "checkpoint").write_text(f"{text}run_id: 'a b'\nlast_preserved_timestamp: 1.5e+09\n")
    repair(str(directory))
    assert read(directory) == State("ckpt-9", ("ckpt-2", "ckpt-9"), (), "1.5e+09")


def test_paths_that_are_right_stay_as_they_are_written(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    (directory / "checkpoint").write_text(state(f"{directory}/ckpt-9", "ckpt-1", "./ckpt-2", f"{directory}/ckpt-9"))
    repair(str(directory))
    assert read(directory) == State(f"{directory}/ckpt-9", ("./ckpt-2", f"{directory}/ckpt-9"))


@pytest.mark.parametrize(
    ("here", "others", "newest"),
    [
        (["model.ckpt-5", "best_model"], {}, "model.ckpt-5"),
        (["model.ckpt-5", "pretrained.ckpt-100"], {}, "model.ckpt-5"),
        (["train-4", "train-5", "pretrained-100"], {}, "train-5"),
        (["train-4", "train-5", "dev-90", "dev-91", "dev-92"], {"dev_checkpoint": "dev-92"}, "train-5"),
        (["train-4", "train-5"], {"best": "train-5"}, "train-4"),
        (["train-4", "train-5"], {"best": "/mnt/old/run/train-5"}, "train-4"),
        (["train-4", "train-5"], {"checkpoint.bak": "train-5"}, "train-5"),
        (["train-4", "train-5"], {"checkpoint (1)": "/mnt/old/train-4"}, "train-4"),
        (["train-4", "other-5"], {}, None),
        (["best-4", "best-5"], {}, None),
        (["model.ckpt"], {}, None),
        (["model.ckpt-5"], {"best": "model.ckpt-5"}, None),
        (["model.ckpt-5", "model.ckpt-9-salvaged"], {}, "model.ckpt-5"),
        ([os.fsdecode(b"\xff-5")], {}, None),
    ],
)
def test_without_a_state_file_one_is_named_only_where_its_family_is_clear(
    tmp_path: Path, here: list[str], others: dict[str, str], newest: str | None
) -> None:
    for name in here:
        build_bundle(tmp_path / name, {"a": np.arange(3)})
    for name, latest in others.items():
        (tmp_path / name).write_text(state(latest, latest))
    done = repair(str(tmp_path))
    if newest is None:
        assert done.actions == ()
        (finding,) = done.findings
        assert "not known" in finding.message
        assert not (tmp_path / "checkpoint").exists()
    else:
        assert read(tmp_path) == State(newest, (newest,))


def test_an_absolute_path_of_this_very_directory_is_fine(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    (directory / "checkpoint").write_text(state(f"{directory}/ckpt-9", f"{directory}/ckpt-9"))
    assert repair(str(directory)).actions == ()


def test_what_changed_lately_is_left_alone_and_said(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    make("ckpt-11_temp", "part-00000-of-00001.index")(directory)
    before = contents(directory)
    done = repair(str(directory))
    assert done.actions == ()
    (finding,) = done.findings
    assert finding.id == "fresh"
    assert "a save may be under way" in finding.message
    assert contents(directory) == before
    # A clock that was set back makes everything look as if it came from the future.
    assert repair(str(directory), now=time.time() - 60).actions == ()


def test_a_hostile_state_file_without_any_whole_checkpoint_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text(state("../victim/keep"))
    done = repair(str(tmp_path))
    assert [action.kind for action in done.actions] == [SET_ASIDE]
    assert not (tmp_path / "checkpoint").exists()
    (kept,) = tmp_path.glob(".ckpt-tools/backup/*/checkpoint")
    assert kept.read_text() == state("../victim/keep")


def test_an_experiment_is_repaired_in_all_its_lines(tmp_path: Path) -> None:
    experiment = tmp_path / "best_model" / "book_DNN_b128_lr0.005_d8_len20_x"
    for line in ("keras_ckpt", "latest"):
        (make_run(experiment / line) / "checkpoint").write_text("")
    done = repair(str(experiment))
    assert [(action.kind, action.path) for action in done.actions] == [
        (REWRITE_STATE, str(experiment / line / "checkpoint")) for line in ("keras_ckpt", "latest")
    ]


def test_an_index_comes_back_from_the_other_line_of_the_experiment(tmp_path: Path) -> None:
    experiment = tmp_path / "best_model" / "book_DNN_b128_lr0.005_d8_len20_x"
    for line in ("keras_ckpt", "latest"):
        make_run(experiment / line)
    (experiment / "keras_ckpt" / "ckpt-9.index").unlink()
    done = repair(str(experiment))
    assert [action.kind for action in done.actions] == [REBUILD_INDEX]
    assert contents(experiment / "keras_ckpt")["ckpt-9.index"] == contents(experiment / "latest")["ckpt-9.index"]


def test_an_index_comes_back_from_the_backup_of_an_earlier_change(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    backup = directory / ".ckpt-tools" / "backup" / "20260101T000000-00000000"
    backup.mkdir(parents=True)
    (directory / "ckpt-9.index").rename(backup / "ckpt-9.index")
    assert [action.kind for action in repair(str(directory)).actions] == [REBUILD_INDEX]
    assert (directory / "ckpt-9.index").exists()


@pytest.mark.parametrize("torn", [True, False])
def test_a_rebuilt_index_can_be_taken_back(tmp_path: Path, torn: bool) -> None:
    directory = make_run(tmp_path)
    (copy_with_torn_index if torn else copy_without_index)(directory)
    before = contents(directory)
    repair(str(directory))
    undo(str(directory / "best-11"))
    after = {name: digest for name, digest in contents(directory).items() if not name.startswith(".ckpt-tools")}
    assert after == before


def test_an_undo_of_a_checkpoint_says_how_to_take_back_a_repair_beside_it(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    (directory / "checkpoint").write_bytes(b"torn")
    repair(str(directory))
    with pytest.raises(NotFoundError, match="nothing to undo") as refused:
        undo(str(directory / "ckpt-10"))
    assert f"ckpt undo {directory}" in (refused.value.hint or "")
    undo(f"{directory}/", beside=True)
    assert (directory / "checkpoint").read_bytes() == b"torn"


def test_a_salvaged_checkpoint_can_be_taken_back(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    damage_tensor(directory, "ckpt-9", "kernel")
    (directory / "checkpoint").write_text(state("ckpt-10", "ckpt-10"))
    before = contents(directory)
    repair(str(directory / "ckpt-9"))
    assert (directory / "ckpt-9-salvaged.index").exists()
    undo(str(directory / "ckpt-9-salvaged"))
    after = {name: digest for name, digest in contents(directory).items() if not name.startswith(".ckpt-tools")}
    assert after == before


def test_only_the_data_files_that_are_needed_are_linked(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x-1", {"a": np.arange(30), "b": np.arange(40.0)})
    rewrite(prefix, 0.25)
    rewrite(prefix, 0.5)
    Path(f"{prefix}.data-00001-of-00003").unlink()
    Path(f"{prefix}.data-00000-of-00003").write_bytes(b"")
    done = repair(prefix)
    assert [action.kind for action in done.actions] == [SALVAGE]
    assert sorted(lost.key for lost in done.lost) == ["a", "b"]
    with Bundle(f"{prefix}-salvaged") as bundle:
        assert list(bundle.tensors) == ["best_metric"]
        assert bundle.header.num_shards == 1
        assert bundle.read("best_metric") == 0.5
    linked = Path(f"{prefix}-salvaged.data-00000-of-00001")
    assert os.path.samefile(linked, f"{prefix}.data-00002-of-00003")


def test_what_is_no_bundle_is_not_repaired(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        repair(str(tmp_path))
    with pytest.raises(NotFoundError):
        repair(str(tmp_path / "nothing" / "ckpt-1"))
    make_run(tmp_path)
    with pytest.raises(NotFoundError):
        repair(str(tmp_path / "ckpt-77"))
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(UnsupportedError):
        repair(str(tmp_path / "model.h5"))
