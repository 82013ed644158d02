"""What a state file means, whoever wrote it, where, and under which name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Sample, build_bundle, contents, pick, rewrite

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.newest import instead_of, newest_whole
from ckpt_tools.analysis.resume_forecast import forecast
from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.format.state import decode_state, encode_state
from ckpt_tools.operations.migration import plan_migration
from ckpt_tools.operations.repairing import REWRITE_STATE, repair
from ckpt_tools.readers import locate, open_checkpoint
from ckpt_tools.readers.state_files import other_states
from ckpt_tools.transactions import undo

ELSEWHERE = [
    "/mnt/old/run/ckpt-8",
    r"D:\proj\model\ckpt-8",
    "D:/proj/model/ckpt-8",
    r"D:\proj/model\ckpt-8",
    "D:ckpt-8",
    r"\proj\ckpt-8",
    r"\\server\share\ckpt-8",
    "//server/share/ckpt-8",
    r"\\?\UNC\server\share\ckpt-8",
    r"\\?\D:\run\ckpt-8",
    r".\ckpt-8",
    r"save\ckpt-8",
    "save/ckpt-8",
    "./save/ckpt-8",
    "gs://bucket/run/ckpt-8",
    "s3://bucket/run/ckpt-8",
    "hdfs://host:8020/run/ckpt-8",
    "hdfs:///run/ckpt-8",
    "file:///mnt/old/ckpt-8",
    "dbfs:/run/ckpt-8",
    # A separator behind the name, or one of its files, as people write them.
    "\\\\server\\share\\ckpt-8\\",
    "D:/proj/model/ckpt-8/",
    "/mnt/old/run/ckpt-8//",
    r"D:\run\ckpt-8.index",
    "ckpt-8.index",
    "./ckpt-8.data-00000-of-00001",
    "/mnt/old/run/ckpt-8.meta",
]


def bundle(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        build_bundle(f"{directory}/{name}", {"a": np.arange(20.0) + number})


@pytest.mark.parametrize("stored", ELSEWHERE)
def test_a_path_of_another_machine_means_the_checkpoint_of_that_name_here(tmp_path: Path, stored: str) -> None:
    bundle(tmp_path, "ckpt-6", "ckpt-8", "ckpt-10")
    (tmp_path / "checkpoint").write_bytes(encode_state(stored, [stored]))
    assert locate(tmp_path) == locate(tmp_path / "checkpoint") == f"{tmp_path}/ckpt-8"
    found = audit(str(tmp_path))
    assert {(row.path, row.health) for row in found.rows} == {(f"ckpt-{n}", "whole") for n in (6, 8, 10)}
    assert [action.kind for action in repair(str(tmp_path)).actions] == [REWRITE_STATE]
    assert decode_state((tmp_path / "checkpoint").read_bytes()).all == ("ckpt-8",)


@pytest.mark.parametrize("stored", [r"D:\run\model.ckpt", r".\model.ckpt", "gs://bucket/model.ckpt"])
def test_an_old_experiment_with_such_a_file_is_used_by_every_command(
    copy: Callable[..., Path], stored: str, tmp_path: Path
) -> None:
    sample: Sample = pick("tf1.15")
    experiment = copy(sample)
    name = Path(sample.prefix_in(experiment)).name
    (experiment / "checkpoint").write_bytes(encode_state(stored.replace("model.ckpt", name), []))
    assert inspect(str(experiment)).prefix == f"{experiment}/{name}"
    assert forecast(str(experiment)).verdict != "blocked"
    assert plan_migration(str(experiment)) is not None
    (row,) = audit(str(tmp_path / "root")).rows
    assert row.health == "whole"


@pytest.mark.parametrize("stored", ["C:/me/save/", "C:\\me\\save\\", "/mnt/old/save/", "gs://bucket/save/", ".", "./"])
def test_a_checkpoint_without_a_name(tmp_path: Path, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(tmp_path, "", "ckpt-1")
    before = contents(tmp_path)
    (tmp_path / "checkpoint").write_bytes(encode_state(stored, [stored]))
    prefix = f"{tmp_path}/"
    for path in (tmp_path, prefix, tmp_path / ".index", tmp_path / ".data-00000-of-00001", tmp_path / "checkpoint"):
        assert locate(path) == prefix
    assert verify(prefix).whole
    assert {row.path for row in audit(str(tmp_path)).rows} == {"./", "ckpt-1"}
    repair(str(tmp_path))
    assert decode_state((tmp_path / "checkpoint").read_bytes()).latest == "./"
    (tmp_path / "checkpoint").unlink()
    rewrite(prefix, 0.5)
    rewrite(f"{tmp_path}/ckpt-1", 0.25)
    undo(f"{tmp_path}/ckpt-1")
    undo(prefix)
    assert {name: digest for name, digest in contents(tmp_path).items() if ".ckpt-tools" not in name} == before
    monkeypatch.chdir(tmp_path)
    assert locate(".index") == "./"
    with open_checkpoint(".index") as checkpoint:
        assert checkpoint.format == "bundle-name"
    (row, _) = sorted(audit(".").rows, key=lambda row: row.path)
    assert (row.path, row.health, row.safe_to_delete) == ("./", "whole", None)


def test_an_index_of_one_without_a_name_comes_back(tmp_path: Path) -> None:
    bundle(tmp_path, "")
    shutil.move(tmp_path / ".index", tmp_path / "other.index")
    done = repair(str(tmp_path))
    assert [action.path for action in done.actions] == [f"{tmp_path}/"]
    assert locate(tmp_path / ".index") == f"{tmp_path}/"


@pytest.mark.parametrize("stored", ["..\\run\\ckpt-8", "../run/ckpt-8", "/run/..", "D:\\run\\.."])
def test_a_relative_path_that_leads_out_is_refused(tmp_path: Path, stored: str) -> None:
    bundle(tmp_path, "ckpt-8")
    (tmp_path / "checkpoint").write_bytes(encode_state(stored, [stored]))
    with pytest.raises(UnsafeError, match="outside"):
        locate(tmp_path)


def test_a_backslash_may_be_part_of_a_name_here(tmp_path: Path) -> None:
    bundle(tmp_path, "a\\ckpt-8", "ckpt-8")
    (tmp_path / "checkpoint").write_bytes(encode_state("a\\ckpt-8", []))
    assert locate(tmp_path) == f"{tmp_path}/a\\ckpt-8"


# ------------------------------------------------------------------------------------- under another name

BEST = 'model_checkpoint_path: "/mnt/old/best_dev-6000"\nall_model_checkpoint_paths: "/mnt/old/best_dev-6000"\n'


@pytest.fixture
def two_states(tmp_path: Path) -> Path:
    bundle(tmp_path, "best_dev-6000", "train-8000", "train-10000")
    (tmp_path / "checkpoint").write_bytes(encode_state("train-10000", ["train-8000", "train-10000"]))
    (tmp_path / "best_dev_checkpoint").write_text(BEST)
    return tmp_path


@pytest.mark.parametrize("text", [BEST, f"# the best\n{BEST}", f"last_preserved_timestamp: 1.5\n{BEST}"])
@pytest.mark.parametrize("name", ["best_dev_checkpoint", "best", "checkpoint_best.txt", "latest.ckpt"])
def test_a_state_file_of_any_name_means_what_it_names(two_states: Path, name: str, text: str) -> None:
    (two_states / "best_dev_checkpoint").unlink()
    (two_states / name).write_text(text)
    assert locate(two_states / name) == f"{two_states}/best_dev-6000"
    assert inspect(str(two_states / name)).prefix == f"{two_states}/best_dev-6000"
    assert locate(two_states) == f"{two_states}/train-10000"


def test_its_stale_paths_are_repaired_too_and_that_is_taken_back(two_states: Path) -> None:
    done = repair(str(two_states))
    assert [(action.kind, action.path) for action in done.actions] == [
        (REWRITE_STATE, f"{two_states}/best_dev_checkpoint")
    ]
    state = two_states / "best_dev_checkpoint"
    assert decode_state(state.read_bytes()).all == ("best_dev-6000",)
    assert repair(str(state)).actions == ()
    undo(f"{two_states}/", beside=True)
    assert state.read_text() == BEST


def test_a_best_that_is_gone_is_told_and_no_other_one_is_called_the_best(two_states: Path) -> None:
    for path in two_states.glob("best_dev-6000.*"):
        path.rename(two_states / path.name.replace("6000", "5000"))
    done = repair(str(two_states))
    assert done.actions == ()
    assert (
        "names best_dev-6000, which is gone" in done.findings[0].message or "another place" in done.findings[0].message
    )
    assert (two_states / "best_dev_checkpoint").read_text() == BEST
    (row,) = (row for row in audit(str(two_states)).rows if row.health == "missing")
    assert row.path == "best_dev_checkpoint"
    with pytest.raises(NotFoundError) as refused:
        locate(two_states / "best_dev_checkpoint")
    assert "it names /mnt/old/best_dev-6000: no checkpoint with this prefix" in refused.value.message


def test_without_the_usual_file_the_others_are_offered(two_states: Path) -> None:
    (two_states / "checkpoint").unlink()
    with pytest.raises(NotFoundError, match="3 checkpoints") as refused:
        locate(two_states)
    assert f"{two_states}/best_dev_checkpoint" in (refused.value.hint or "")


def test_a_torn_one_is_damage_and_one_that_names_itself_means_nothing(tmp_path: Path) -> None:
    bundle(tmp_path, "ckpt-1")
    (tmp_path / "best").write_text('model_checkpoint_path: "ckp')
    with pytest.raises(CorruptError):
        locate(tmp_path / "best")
    for name in ("best", "checkpoint"):
        (tmp_path / name).write_text(f'model_checkpoint_path: "{name}"\n')
        with pytest.raises(CkptError):
            locate(tmp_path / name)


def test_copies_that_people_keep_are_no_other_state_files(two_states: Path) -> None:
    for name in ("checkpoint.bak", "checkpoint~", "checkpoint (1)", "checkpoint.txt", "checkpoint_old"):
        (two_states / name).write_text('model_checkpoint_path: "train-1"\n')
    assert list(other_states(str(two_states))) == ["best_dev_checkpoint"]
    assert {row.health for row in audit(str(two_states)).rows} == {"whole"}


# --------------------------------------------------------------------- a directory that is called as a file is


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        "best_checkpoint",
        "x.index",
        "x.data-00000-of-00001",
        "x.meta",
        "saved_model.pb",
        "model.h5",
        "model.keras",
        "model.weights.json",
        "config.json",
        "metrics.jsonl",
        "events.out.tfevents.1.x",
        "checkpoint.tmp0a0a0a0a0a",
    ],
)
def test_a_directory_that_bears_the_name_of_a_file_is_not_that_file(tmp_path: Path, name: str) -> None:
    bundle(tmp_path / "run", "ckpt-1")
    (tmp_path / "run" / name).mkdir()
    bundle(tmp_path / "run" / name, "ckpt-0")
    run = str(tmp_path / "run")
    assert locate(run) == f"{run}/ckpt-1"
    assert verify(run).whole
    assert {(row.path, row.health) for row in audit(run).rows} == {("ckpt-1", "whole"), (f"{name}/ckpt-0", "whole")}
    assert [action for action in repair(run).actions if action.kind != REWRITE_STATE] == []
    assert locate(f"{run}/{name}") == f"{run}/{name}/ckpt-0"


def test_a_directory_called_checkpoint_alone_leads_to_what_lies_in_it(tmp_path: Path) -> None:
    bundle(tmp_path / "checkpoint", "ckpt-0")
    with pytest.raises(NotFoundError) as refused:
        locate(tmp_path)
    assert refused.value.hint == f"there is: {tmp_path}/checkpoint/ckpt-0"


def test_a_directory_called_checkpoint_in_a_saved_model(tmp_path: Path) -> None:
    bundle(tmp_path / "checkpoint", "ckpt-0")
    bundle(tmp_path / "variables", "variables")
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    assert locate(tmp_path) == str(tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "saved-model"


@pytest.mark.parametrize("missing", ["index", "data-00000-of-00001"])
def test_a_directory_in_the_place_of_a_part_means_that_the_part_is_missing(tmp_path: Path, missing: str) -> None:
    bundle(tmp_path, "ckpt-1")
    (tmp_path / f"ckpt-1.{missing}").unlink()
    (tmp_path / f"ckpt-1.{missing}").mkdir()
    if missing == "index":
        with pytest.raises(NotFoundError):
            verify(f"{tmp_path}/ckpt-1")
    else:
        (finding, *_) = verify(f"{tmp_path}/ckpt-1").findings
        assert "data file is missing" in finding.message


@pytest.mark.parametrize("name", ["variables", "keras_ckpt", "latest", ".ckpt-tools", "x_temp"])
def test_a_file_that_bears_the_name_of_a_directory_is_not_that_directory(tmp_path: Path, name: str) -> None:
    bundle(tmp_path, "ckpt-1")
    (tmp_path / name).write_text("notes")
    assert locate(tmp_path) == f"{tmp_path}/ckpt-1"
    assert {row.health for row in audit(str(tmp_path)).rows} == {"whole"}


@pytest.mark.parametrize("gone", [False, True])
def test_another_family_does_not_stand_in_for_a_lost_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: bool
) -> None:
    for number, name in enumerate(["model.ckpt-300", "model.ckpt-400", "model.ckpt-500", "pretrained-1000000"]):
        build_bundle(tmp_path / name, {"w": np.full(3, number, np.float32)})
    (tmp_path / "model.ckpt-500.index").write_bytes(b"\0\0\1\x08")
    if gone:
        for path in tmp_path.glob("model.ckpt-500*"):
            path.unlink()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-500"\n')
    prefix, (finding,) = newest_whole(str(tmp_path))
    assert os.path.basename(prefix) == "model.ckpt-400"
    assert finding.id == "fallback"
    run(["repair", str(tmp_path), "--dry-run"])
    assert gone or f"go on from {tmp_path}/model.ckpt-400, which is whole" in capsys.readouterr().out
    assert instead_of("best", ["a-9", "b"]) == ["b", "a-9"]
    assert instead_of(None, ["a-9", "a-10"]) == ["a-9", "a-10"]


@pytest.mark.parametrize("stored", ["a\0b", "a/b\0", "/x/\0", "\0/x", "sub/\ud800"])
def test_a_path_that_no_file_can_have_is_of_nothing_here(tmp_path: Path, stored: str) -> None:
    build_bundle(tmp_path / "m-3", {"a": np.ones(3, np.float32)})
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{stored}"\n', errors="surrogatepass")
    for command in ("inspect", "audit", "repair --dry-run", "repair", "undo --list", "keep --last=1"):
        name, *options = command.split()
        assert run([name, str(tmp_path), *options]) in range(7), command
    assert run(["verify", str(tmp_path / "m-3")]) == 0
