"""The audit: every run is a row, the damaged among them; nothing is named safe to delete that is held only once."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkpoints import EXPERIMENTS, FIXTURES, Sample, build_bundle, pick, snapshot
from growing import steps

from ckpt_tools.analysis import run_audit
from ckpt_tools.analysis.run_audit import Row, audit, selector
from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError, UsageError
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.repairing import repair
from ckpt_tools.runs.discovery import Discovery

Copy = Callable[..., Path]
SAMPLE = pick("tf2.21")
WITH_BEST = pick("tf2.21", with_best=True)


def rows_of(root: Path, **options: bool) -> dict[str, Row]:
    return {row.path: row for row in audit(str(root), **options).rows}


def count_of(wanted: Callable[[Sample], bool]) -> int:
    return sum(map(wanted, EXPERIMENTS))


def only(root: Path, **options: bool) -> Row:
    (row,) = audit(str(root), **options).rows
    return row


def test_every_fixture_is_described_as_the_manifest_says() -> None:
    before = snapshot(FIXTURES)
    rows = rows_of(FIXTURES / "experiments", verify=True)
    assert len(rows) == len(EXPERIMENTS)
    for sample in EXPERIMENTS:
        row = rows[os.path.relpath(sample.path, FIXTURES / "experiments")]
        assert (row.health, row.best, row.model, row.step) == ("whole", "kept", sample.model_type, sample.best_step)
        assert row.best_logged == pytest.approx(sample.best_recall, abs=1e-6)
        assert (row.best_stored is not None) == sample.has_best_metric
        assert row.verdict == ("safe" if sample.has_best_metric else "at-risk")
        assert not row.orphans
        assert not row.duplicates
        assert row.safe_to_delete is None
        assert row.nbytes == sum(file.stat().st_size for file in sample.path.rglob("*") if file.is_file())
    assert snapshot(FIXTURES) == before


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(bytes(data))


def _truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


INDEX, DATA = "ckpt-3.index", "ckpt-3.data-00000-of-00001"

# What is done to keras_ckpt/, the health, whether only --verify sees it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "index-cut": (lambda line: _truncate(line / INDEX, 200), "damaged", False),
    "index-empty": (lambda line: _truncate(line / INDEX, 0), "damaged", False),
    "index-flipped": (lambda line: _flip(line / INDEX, 40), "damaged", False),
    "index-gone": (lambda line: (line / INDEX).unlink(), "missing", False),
    "data-gone": (lambda line: (line / DATA).unlink(), "damaged", False),
    "data-cut": (lambda line: _truncate(line / DATA, 5000), "damaged", False),
    "data-flipped": (lambda line: _flip(line / DATA, 20000), "damaged", True),
    "data-empty": (lambda line: _truncate(line / DATA, 0), "damaged", False),
    "state-garbled": (lambda line: (line / "checkpoint").write_bytes(b"\xff\xfe"), "damaged", False),
    "state-elsewhere": (
        lambda line: (line / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n'),
        "damaged",
        False,
    ),
    "all-gone": (lambda line: shutil.rmtree(line), "missing", False),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_broken_run_is_a_row_that_says_why(copy: Copy, tmp_path: Path, name: str) -> None:
    spoil, health, hidden = DAMAGE[name]
    spoil(copy(SAMPLE) / "keras_ckpt")
    copy(WITH_BEST)
    if hidden:
        assert {row.health for row in rows_of(tmp_path).values()} == {"whole"}
    found = audit(str(tmp_path), verify=hidden)
    rows = {os.path.basename(row.path): row for row in found.rows}
    broken = rows.pop(SAMPLE.experiment)
    assert broken.health == health
    assert broken.problem
    assert broken.fix or name == "all-gone"
    assert broken.verdict == ("blocked" if health == "damaged" else None)
    assert broken.best_logged == pytest.approx(SAMPLE.best_recall, abs=1e-6)
    assert [row.health for row in rows.values()] == ["whole"]
    severities = {finding.severity for finding in found.findings if finding.path == broken.location}
    assert ("damage" in severities) == (health == "damaged")


@pytest.mark.parametrize("name", [name for name, (_, _, hidden) in DAMAGE.items() if not hidden])
def test_reading_every_byte_finds_what_a_quick_look_finds(copy: Copy, tmp_path: Path, name: str) -> None:
    DAMAGE[name][0](copy(SAMPLE) / "keras_ckpt")
    quick, thorough = only(tmp_path), only(tmp_path, verify=True)
    assert replace(quick, age_days=None) == replace(thorough, age_days=None)


@pytest.mark.parametrize("refused", ["", "keras_ckpt", f"keras_ckpt/{INDEX}", f"keras_ckpt/{DATA}"])
def test_what_may_not_be_read_is_neither_damaged_nor_lost(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    experiment = copy(SAMPLE)
    copy(WITH_BEST)
    secret = os.path.join(experiment, refused).rstrip("/")

    real = {name: getattr(os, name) for name in ("open", "listdir", "stat", "lstat")}

    def denies(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(path: object, *arguments: object, **options: object) -> object:
            where = os.path.abspath(path) if isinstance(path, (str, os.PathLike)) else ""
            # Of a directory without permissions also what lies in it is out of reach.
            if where.startswith(f"{secret}/") or (where == secret and call not in (real["stat"], real["lstat"])):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return call(path, *arguments, **options)

        return wrapped

    for name, call in real.items():
        monkeypatch.setattr(os, name, denies(call))
    found = audit(str(tmp_path), verify=True)
    rows = {os.path.basename(row.path): row for row in found.rows}
    row = rows.pop(SAMPLE.experiment)
    assert (row.health, row.best) == ("unreadable", "unknown")
    assert row.problem
    assert "Permission denied" in row.problem
    assert [row.health for row in rows.values()] == ["whole"]
    assert [(finding.id, finding.severity) for finding in found.findings] == [("unreadable-run", "error")]


def test_a_damaged_state_file_does_not_hide_the_checkpoint(copy: Copy, tmp_path: Path) -> None:
    experiment = copy(SAMPLE)
    (experiment / "keras_ckpt" / "checkpoint").write_bytes(b"\xff")
    row = only(tmp_path)
    assert (row.health, row.model, row.step, row.verdict) == ("damaged", "DNN", SAMPLE.best_step, "blocked")
    assert row.fix == f"ckpt repair {experiment} --dry-run"
    repair(row.location)
    assert only(tmp_path).health == "whole"


def test_logs_without_a_checkpoint_are_a_lost_best(copy: Copy, tmp_path: Path) -> None:
    shutil.rmtree(copy(SAMPLE))
    row = only(tmp_path)
    assert (row.health, row.best, row.path) == ("missing", "lost", f"root/best_model/{SAMPLE.experiment}")


def test_an_overwritten_best_is_lost(copy: Copy, tmp_path: Path) -> None:
    experiment = copy(SAMPLE)
    log = tmp_path / "root" / "runs" / experiment.name / "metrics.jsonl"
    log.write_text(json.dumps({"event": "eval", "step": 90, "loss": 1.0, "recall": 0.9}) + "\n")
    found = audit(str(tmp_path))
    assert found.rows[0].best == "lost"
    assert [finding.id for finding in found.findings] == ["best-lost"]


def test_other_formats_are_rows(tmp_path: Path) -> None:
    build_bundle(tmp_path / "loose", {"w": np.zeros(3, np.float32)})
    variables = tmp_path / "export" / "1" / "variables"
    variables.mkdir(parents=True)
    build_bundle(variables / "variables", {"w": np.ones(4, np.float32)})
    (variables.parent / "saved_model.pb").write_bytes(b"\x08\x01")
    (tmp_path / "model.weights.h5").write_bytes(b"no such thing")
    (tmp_path / "words.index").write_bytes(b"the index of a book, which is none of ours")
    rows = rows_of(tmp_path)
    assert {path: row.kind for path, row in rows.items()} == {
        "loose": "checkpoint",
        "export/1": "saved-model",
        "model.weights.h5": "keras",
    }
    assert rows["model.weights.h5"].health == "damaged"
    assert rows["export/1"].health == rows["loose"].health == "whole"
    assert rows["loose"].verdict is None


def test_what_nothing_names_is_an_orphan(copy: Copy, tmp_path: Path) -> None:
    line = copy(SAMPLE) / "keras_ckpt"
    expected = {
        "ckpt-2.data-00000-of-00001",
        "ckpt-3.data-00000-of-00002",
        "ckpt-4_temp/part-00000-of-00001.data-00000-of-00001",
        "ckpt-4.index.tempstate123456",
        "checkpoint.tmp0123abcd",
    }
    for name in expected:
        (line / name).parent.mkdir(exist_ok=True)
        (line / name).write_bytes(b"left behind")
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "old.data-00000-of-00001").write_bytes(b"x")
    found = audit(str(tmp_path))
    (row,) = found.rows
    assert {os.path.relpath(tmp_path / path, line) for path in row.orphans} == expected
    assert found.orphans == ("attic/old.data-00000-of-00001",)
    assert row.health == "whole"
    assert found.totals["orphans"] == 6


def test_our_backups_are_neither_orphans_nor_runs(copy: Copy, tmp_path: Path) -> None:
    backfill(str(copy(SAMPLE)), Options(value=SAMPLE.best_recall, force=True))
    row = only(tmp_path)
    assert not row.orphans
    assert row.verdict == "safe"


class TestSafeToDelete:
    """Deleting every row that is named must leave a whole holder of each content."""

    def test_one_of_two_copies_stays(self, copy: Copy, tmp_path: Path) -> None:
        copy(SAMPLE)
        copy(SAMPLE, root="copy")
        rows = rows_of(tmp_path)
        named = [path for path, row in rows.items() if row.safe_to_delete]
        assert len(named) == 1
        (kept,) = rows.keys() - set(named)
        assert rows[named[0]].safe_to_delete == f"the same as {kept}"
        assert rows[kept].duplicates == (named[0],)

    def test_a_copy_with_hidden_damage_is_never_the_one_that_stays(self, copy: Copy, tmp_path: Path) -> None:
        copy(SAMPLE)
        (first, second) = sorted([copy(SAMPLE, root="a"), copy(SAMPLE, root="b")])
        for spoiled in (tmp_path / "root" / "best_model" / SAMPLE.experiment, first):
            _flip(spoiled / "keras_ckpt" / DATA, 20000)
        rows = rows_of(tmp_path)
        assert rows[os.path.relpath(second, tmp_path)].safe_to_delete is None
        _flip(second / "keras_ckpt" / DATA, 20000)
        assert not any(row.safe_to_delete for row in rows_of(tmp_path).values())

    def test_a_copy_with_damage_is_not_named(self, copy: Copy, tmp_path: Path) -> None:
        """Behind an index from elsewhere there may be the only data of another save."""
        copy(SAMPLE)
        torn = copy(SAMPLE, root="torn")
        _flip(torn / "keras_ckpt" / DATA, 20000)
        rows = rows_of(tmp_path)
        assert all(row.duplicates for row in rows.values())
        assert not any(row.safe_to_delete for row in rows.values())

    def test_single_files_are_compared_when_every_byte_is_read(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["layers/dense/vars/0"] = np.arange(6, dtype=np.float32)
        shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
        assert not any(row.duplicates for row in rows_of(tmp_path).values())
        rows = rows_of(tmp_path, verify=True)
        assert rows["a.h5"].health == "whole"
        assert (rows["a.h5"].safe_to_delete, rows["b.h5"].safe_to_delete) == (None, "the same as a.h5")

    def test_weights_in_several_files_are_one_run_and_compared_in_full(self, tmp_path: Path) -> None:
        for name, last in (("a", 1.0), ("b", 1.0), ("other", 2.0)):
            (tmp_path / name).mkdir()
            for number, value in enumerate((0.0, last)):
                with h5py.File(tmp_path / name / f"m_{number:05}.weights.h5", "w", track_order=False) as file:
                    file[f"layer{number}/kernel"] = np.full(3, value)
            places = {f"/layer{number}": f"m_{number:05}.weights.h5" for number in range(2)}
            (tmp_path / name / "m.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        rows = rows_of(tmp_path, verify=True)
        assert set(rows) == {f"{name}/m.weights.json" for name in ("a", "b", "other")}
        row = rows["other/m.weights.json"]
        assert (row.duplicates, row.safe_to_delete) == ((), None)
        assert row.nbytes == sum(file.stat().st_size for file in (tmp_path / "other").iterdir())
        assert rows["a/m.weights.json"].duplicates == ("b/m.weights.json",)

    def test_saved_models_with_the_same_weights_and_other_programs_are_no_copies(self, tmp_path: Path) -> None:
        for name, program in (("a", b"\x08\x01"), ("b", b"\x08\x01"), ("other", b"\x08\x01\x12\x00")):
            (tmp_path / name / "variables").mkdir(parents=True)
            build_bundle(tmp_path / name / "variables" / "variables", {"w": np.arange(3.0)})
            (tmp_path / name / "saved_model.pb").write_bytes(program)
        rows = rows_of(tmp_path, verify=True)
        assert rows["a"].duplicates == ("b",)
        assert (rows["other"].duplicates, rows["other"].safe_to_delete) == ((), None)

    def test_links_hold_nothing(self, copy: Copy, tmp_path: Path) -> None:
        original = copy(SAMPLE) / "keras_ckpt"
        linked = tmp_path / "a" / "best_model" / "linked" / "keras_ckpt"
        linked.mkdir(parents=True)
        for file in original.iterdir():
            (linked / file.name).symlink_to(file)
        rows = rows_of(tmp_path)
        assert rows[f"root/best_model/{SAMPLE.experiment}"].safe_to_delete is None
        assert rows["a/best_model/linked"].safe_to_delete

    def test_directories_that_are_links_are_seen_once(self, copy: Copy, tmp_path: Path) -> None:
        experiment = copy(SAMPLE)
        (experiment.parent / "again").symlink_to(experiment)
        (experiment / "round").symlink_to(experiment.parent)
        assert len(rows_of(tmp_path)) == 1

    def test_links_out_of_the_root_are_not_followed(self, copy: Copy, tmp_path: Path) -> None:
        """One to ``/`` would lead through the whole machine."""
        copy(SAMPLE)
        elsewhere = copy(SAMPLE, root="elsewhere")
        root = tmp_path / "root"
        for number, link in enumerate((root / "link", root / "best_model" / "link", root / "x_temp")):
            link.symlink_to(elsewhere.parents[number % 2])
        found = audit(str(root))
        assert [row.path for row in found.rows] == [f"best_model/{SAMPLE.experiment}"]
        assert found.orphans == ()
        told = {finding.path: finding.fix for finding in found.findings if finding.id == "link-outside"}
        assert told == {os.fspath(link): f"ckpt audit {os.path.realpath(link)}" for link in map(Path, told)}
        assert len(told) == 3

    def test_a_line_of_checkpoints_that_is_kept_elsewhere(self, copy: Copy, tmp_path: Path) -> None:
        experiment = copy(SAMPLE)
        (tmp_path / "disk").mkdir()
        shutil.move(experiment / "keras_ckpt", tmp_path / "disk" / "keras_ckpt")
        (tmp_path / "disk" / "keras_ckpt" / "below").mkdir()
        build_bundle(tmp_path / "disk" / "keras_ckpt" / "below" / "other", {"a": np.float32(1)})
        (experiment / "keras_ckpt").symlink_to(tmp_path / "disk" / "keras_ckpt")
        found = audit(str(tmp_path / "root"))
        assert [(row.path, row.health) for row in found.rows] == [(f"best_model/{SAMPLE.experiment}", "whole")]
        assert found.rows[0].nbytes > 1000
        assert not [finding for finding in found.findings if finding.id == "link-outside"]

    def test_a_folder_with_the_only_holder_of_something_else_stays(self, copy: Copy, tmp_path: Path) -> None:
        copy(SAMPLE, root="a")
        crowded = copy(SAMPLE, root="b/deeper")
        build_bundle(crowded / "keras_ckpt" / "ckpt-1", {"best": np.float32(0.9)})
        rows = rows_of(tmp_path)
        assert not any(row.safe_to_delete for row in rows.values())

    def test_an_older_checkpoint_goes_only_when_the_stored_best_is_better(self, copy: Copy, tmp_path: Path) -> None:
        experiment = copy(WITH_BEST)
        line = experiment / "keras_ckpt"
        for name in (INDEX, DATA):
            shutil.copy(line / name, line / name.replace("ckpt-3", "ckpt-2"))
        older = str(line / "ckpt-2")
        backfill(older, Options(value=WITH_BEST.best_recall / 2, force=True))
        row = rows_of(tmp_path)[os.path.relpath(older, tmp_path)]
        assert row.safe_to_delete
        assert "holds a better one" in row.safe_to_delete
        backfill(older, Options(value=WITH_BEST.best_recall * 2, force=True))
        assert not any(row.safe_to_delete for row in rows_of(tmp_path).values())

    def test_quite_another_checkpoint_in_the_folder_is_not_named(self, copy: Copy, tmp_path: Path) -> None:
        build_bundle(copy(WITH_BEST) / "keras_ckpt" / "ckpt-1", {"best_metric": np.float32(0.01)})
        assert not any(row.safe_to_delete for row in rows_of(tmp_path).values())


def test_the_root_may_be_at_any_height(copy: Copy, tmp_path: Path) -> None:
    experiment = copy(SAMPLE)
    for root in (tmp_path, experiment.parent, experiment):
        assert only(root).best == "kept"
    with pytest.raises(NotFoundError):
        audit(str(tmp_path / "nowhere"))


def test_how_the_root_is_written_does_not_matter(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = copy(SAMPLE)
    (experiment / "keras_ckpt" / "ckpt-9.data-00000-of-00001").write_bytes(b"")
    build_bundle(tmp_path / "loose", {"w": np.zeros(2, np.float32)})
    rows = [replace(row, location="", prefix="", fix="", age_days=None) for row in audit(str(tmp_path)).rows]
    monkeypatch.chdir(tmp_path)
    for root in (".", "./", "root/..", f"{tmp_path}/"):
        assert [replace(r, location="", prefix="", fix="", age_days=None) for r in audit(root).rows] == rows
    monkeypatch.chdir(experiment)
    assert [(row.path, row.health) for row in audit(".").rows] == [(".", "whole")]


def test_each_row_is_told_as_soon_as_it_is_known(copy: Copy, tmp_path: Path, sample: Sample) -> None:
    copy(sample)
    told: list[Row] = []
    assert audit(str(tmp_path), seen=told.append).rows == tuple(told)
    assert len(told) == 1


class TestSelection:
    @pytest.mark.parametrize(
        ("expression", "count"),
        [
            ("DNN", count_of(lambda sample: sample.model_type == "DNN")),
            ("*tf1.15*", count_of(lambda sample: sample.root == "tf1.15")),
            ("model=DNN", count_of(lambda sample: sample.model_type == "DNN")),
            ("model!=DNN", count_of(lambda sample: sample.model_type != "DNN")),
            ("model=ComiRec-*", count_of(lambda sample: sample.model_type.startswith("ComiRec"))),
            ("best_stored=", count_of(lambda sample: not sample.has_best_metric)),
            ("best_logged>0.1", count_of(lambda sample: sample.best_recall > 0.1)),
            ("step<=50", count_of(lambda sample: sample.best_step <= 50)),
            ("duplicates>0", 0),
        ],
    )
    def test_expressions(self, expression: str, count: int) -> None:
        found = selector([expression])(audit(str(FIXTURES / "experiments")))
        assert len(found.rows) == count
        assert found.totals["runs"] == count

    def test_order_with_what_is_not_known_last(self) -> None:
        found = audit(str(FIXTURES / "experiments"))
        values = [row.best_stored for row in selector([], "-best_stored")(found).rows]
        known = [value for value in values if value is not None]
        assert values[: len(known)] == sorted(known, reverse=True)
        assert None not in values[: len(known)]
        paths = [row.path for row in selector([], "path")(found).rows]
        assert paths == sorted(paths)

    def test_findings_of_other_runs_are_left_out(self, copy: Copy, tmp_path: Path) -> None:
        _truncate(copy(SAMPLE) / "keras_ckpt" / INDEX, 10)
        copy(pick("tf2.10"))
        assert not selector(["*k210*"])(audit(str(tmp_path))).findings

    @pytest.mark.parametrize("expression", ["colour=red", "step>many"])
    def test_nonsense_is_refused(self, expression: str) -> None:
        with pytest.raises(UsageError):
            selector([expression])
        with pytest.raises(UsageError):
            selector([], "-colour")


class TestCommand:
    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["audit", str(FIXTURES), "--json", "--filter", "model=DNN", "--sort", "-best_logged"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["command"] == "audit"
        assert [row["model"] for row in document["runs"]] == ["DNN"] * len(document["runs"])
        assert document["totals"]["runs"] == count_of(lambda sample: sample.model_type == "DNN")

    def test_csv(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["audit", str(FIXTURES), "--csv"]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert len(rows) == len(EXPERIMENTS)
        assert {row["health"] for row in rows} == {"whole"}
        assert run(["audit", str(FIXTURES), "--csv", "--json"]) == 2

    @pytest.mark.parametrize("columns", ["80", "200"])
    def test_text_fits(self, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        assert run(["audit", str(FIXTURES)]) == 0
        text = capsys.readouterr().out
        table, _, _ = text.partition(f"{len(EXPERIMENTS)} runs")
        assert max(map(len, table.splitlines())) <= int(columns)
        assert f"{len(EXPERIMENTS)} runs" in text
        # One line each, told apart; what there is no room for is said.
        rows = [line.split()[0] for line in table.splitlines() if " whole " in line]
        assert len({*rows}) == len(EXPERIMENTS)
        assert ("no room for lineage, stored, recall, size, age, orphans, copies" in text) == (columns == "80")

    def test_names_stay_whole_in_a_pipe(
        self, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("COLUMNS", raising=False)
        names = [f"{'long' * 50}{letter}" for letter in "ab"]
        for name in names:
            copied = copy(SAMPLE, logs=False)
            copied.rename(copied.with_name(name))
        assert run(["audit", str(tmp_path)]) == 0
        # It may be folded, never cut.
        text = "".join(line[:200].split(" ")[0] for line in capsys.readouterr().out.splitlines())
        assert "…" not in text
        assert all(name in text for name in names)

    @pytest.mark.parametrize("with_data", [True, False])
    def test_ends_with_the_one_command_that_mends_most(
        self, with_data: bool, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for sample in (SAMPLE, pick("tf2.10"), pick("tf2.21", with_best=True)):
            copy(sample)
        broken = copy(pick("tf1.15")) / "model.ckpt.index"
        _truncate(broken, 10)
        if with_data:
            shutil.copytree(FIXTURES / "data", tmp_path / "root" / "data")
        command = f"ckpt backfill --all {tmp_path}{'' if with_data else ' --data DIR'}"
        assert run(["audit", str(tmp_path)]) == 1
        assert capsys.readouterr().out.splitlines()[-1] == f"  next: {command}"
        assert run(["audit", str(tmp_path), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["next"] == command

    def test_nothing_to_mend_has_no_next(self, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        copy(pick("tf2.21", with_best=True))
        assert run(["audit", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["next"] is None

    def test_nothing_there_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["audit", str(tmp_path)]) == 0
        assert "no run here" in capsys.readouterr().out

    def test_damage_is_an_exit_code(self, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _truncate(copy(SAMPLE) / "keras_ckpt" / INDEX, 10)
        assert run(["audit", str(tmp_path)]) == 1
        assert "damaged: " in capsys.readouterr().out


def test_hundreds_of_copies_of_one_run(copy: Copy, tmp_path: Path) -> None:
    experiment = copy(SAMPLE)
    logs = tmp_path / "root" / "runs" / experiment.name
    for number in range(299):
        twin = experiment.parent / f"{experiment.name}{number}"
        shutil.copytree(experiment, twin, copy_function=os.link)
        shutil.copytree(logs, logs.parent / twin.name, copy_function=os.link)
    found = audit(str(tmp_path))
    assert found.totals["runs"] == 300
    assert found.totals["safe_to_delete"] == 299


def test_runs_that_are_doubted_cost_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was seen was compared anew for each of them; counted are calls, so that no other program matters."""
    monkeypatch.setattr(run_audit, "let_rest", lambda: None)

    def of(count: int) -> Callable[[], object]:
        shelf = tmp_path / str(count)
        for number in range(count):
            (shelf / f"run-{number}").mkdir(parents=True)
            (shelf / f"run-{number}" / "checkpoint").write_text('model_checkpoint_path: "gone"\n')
        return lambda: audit(str(shelf))

    assert steps(of, (10, 20, 40)) < 1.05


def test_a_crowded_directory(tmp_path: Path) -> None:
    build_bundle(tmp_path / "ckpt-0", {"w": np.zeros(3, np.float32)})
    for number in range(1, 3000):
        for suffix in (".index", ".data-00000-of-00001"):
            os.link(tmp_path / f"ckpt-0{suffix}", tmp_path / f"ckpt-{number}{suffix}")
    assert sum(1 for _ in Discovery(tmp_path).runs()) == 3000


def test_what_this_trainer_went_on_from_is_the_same_run(copy: Copy, tmp_path: Path) -> None:
    line = copy(WITH_BEST) / "keras_ckpt"
    (own,) = (path.stem for path in line.glob("*.index"))
    number = int(own.rpartition("-")[2])
    for path in list(line.glob(f"{own}.*")):
        shutil.copy(path, line / path.name.replace(own, f"ckpt-{number + 1}"))
    (line / "checkpoint").write_text(f'model_checkpoint_path: "ckpt-{number + 1}"\n')
    assert len(rows_of(tmp_path)) == 2, "without a newest state nothing tells that it is one run"
    (line.parent / "latest").mkdir()
    for path in list(line.glob(f"{own}.*")):
        shutil.copy(path, line.parent / "latest" / path.name.replace(own, "ckpt-9"))
    (line.parent / "latest" / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
    row = only(tmp_path)
    assert (row.prefix or "").endswith(f"ckpt-{number + 1}")
    assert row.nbytes == sum(file.stat().st_size for file in line.parent.rglob("*") if file.is_file())
    # One that is newer than the best is not what the best took the place of.
    (line / "checkpoint").write_text(f'model_checkpoint_path: "{own}"\n')
    assert len(rows_of(tmp_path)) == 2


def test_the_one_prefix_of_the_paper_that_this_trainer_went_on_from_is_the_same_run(copy: Copy, tmp_path: Path) -> None:
    experiment = copy(pick("tf1.15"))
    for line, name in (("keras_ckpt", "ckpt-1"), ("latest", "ckpt-1")):
        (experiment / line).mkdir()
        for path in experiment.glob("*.ckpt.*"):
            shutil.copy(path, experiment / line / f"{name}.{path.name.rpartition('.ckpt.')[2]}")
        (experiment / line / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
    assert only(tmp_path).prefix == f"{experiment}/keras_ckpt/ckpt-1"
    # What else lies there is another model.
    build_bundle(experiment / "pretrained.ckpt-1000000", {"w": np.ones(3, np.float32)})
    assert {Path(row.prefix or "").name for row in audit(str(tmp_path)).rows} == {"ckpt-1", "pretrained.ckpt-1000000"}
