"""``ckpt inspect``: its text, its JSON, and what it says of damage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, FIXTURES, Sample, build_bundle, pick

DNN = [sample for sample in EXPERIMENTS if sample.model_type == "DNN"]


@pytest.fixture
def at_the_fixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no path of this machine is in an output."""
    monkeypatch.chdir(FIXTURES / "experiments")


@pytest.mark.usefixtures("at_the_fixtures")
@pytest.mark.parametrize("sample", DNN, ids=lambda sample: sample.id)
def test_text(sample: Sample, ckpt: Callable, golden: Callable[[str, str], None]) -> None:
    answer = ckpt("inspect", os.path.relpath(sample.path))
    assert (answer.code, answer.err) == (0, "")
    golden(f"inspect/{sample.id}.txt", answer.out)


@pytest.mark.usefixtures("at_the_fixtures")
@pytest.mark.parametrize("option", ["--tree", "--digest", "--stats"])
def test_text_with_options(option: str, ckpt: Callable, golden: Callable[[str, str], None]) -> None:
    answer = ckpt("inspect", os.path.relpath(pick("tf2.21").path), option)
    assert answer.code == 0
    golden(f"inspect/option{option}.txt", answer.out)


def test_no_table_is_wider_than_the_terminal_and_no_line_ends_in_blanks(sample: Sample, ckpt: Callable) -> None:
    path, *lines = ckpt("inspect", sample.path).out.splitlines()
    # What people copy, a path or a command, is not folded.
    assert path == sample.full_prefix
    for line in lines:
        assert line == line.rstrip()
        if not line.startswith(("warning: ", "  next: ")):
            assert len(line) <= 80


def test_json(sample: Sample, ckpt: Callable) -> None:
    answer = ckpt("inspect", sample.path, "--json", "--digest")
    document = answer.json
    assert (answer.code, answer.err) == (0, "")
    assert document["command"] == "inspect"
    assert document["path"] == str(sample.path)
    assert document["prefix"] == sample.full_prefix
    assert document["format"] == ("bundle-name" if sample.name_based else "bundle-object")
    assert document["lineage"]["model_type"] == sample.model_type
    assert set(document["lineage"]["sources"]) <= set(document["lineage"])
    assert document["step"] == sample.best_step
    assert set(document["best_metric"]) == {"status", "value", "key", "meaning"}
    assert document["best_metric"]["status"] == ("present" if sample.has_best_metric else "absent")
    assert document["totals"]["tensors"] == len(document["tensors"])
    assert document["totals"]["bytes"] == sum(tensor["nbytes"] for tensor in document["tensors"])
    for tensor in document["tensors"]:
        assert {"name", "dtype", "shape", "nbytes", "sha256"} <= set(tensor)
        assert len(tensor["sha256"]) == 64
    assert not any(tensor["name"] == "_CHECKPOINTABLE_OBJECT_GRAPH" for tensor in document["tensors"])
    for finding in document["findings"]:
        assert {"id", "severity", "message", "path", "key", "offset", "fix"} <= set(finding)


def test_digests_only_when_asked_for(ckpt: Callable) -> None:
    document = ckpt("inspect", pick("tf1.15").path, "--json").json
    assert not any("sha256" in tensor for tensor in document["tensors"])


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_every_way_to_name_a_checkpoint(suffix: str, ckpt: Callable) -> None:
    sample = pick("tf2.15")
    expected = ckpt("inspect", sample.path, "--json").json
    found = ckpt("inspect", sample.full_prefix + suffix, "--json").json
    assert {**found, "path": None, "findings": None} == {**expected, "path": None, "findings": None}
    assert ckpt("inspect", Path(sample.full_prefix).parent, "--json").json["prefix"] == sample.full_prefix


def test_a_filter(ckpt: Callable) -> None:
    document = ckpt("inspect", pick("tf2.21").path, "--json", "--filter", "*embedding*").json
    names = {tensor["canonical"] for tensor in document["tensors"]}
    assert names == {"model/item_embedding", "optimizer/m/item_embedding", "optimizer/v/item_embedding"}
    assert ckpt("inspect", pick("tf2.21").path, "--json", "--filter", "nothing").json["tensors"] == []


def test_stats(tmp_path: Path, ckpt: Callable) -> None:
    values = {"x": np.array([1.0, -2.0, np.nan, np.inf], np.float32), "empty": np.zeros(0), "s": [b"text"]}
    document = ckpt("inspect", build_bundle(tmp_path / "c", values), "--json", "--stats").json
    stats = {tensor["name"]: tensor.get("stats") for tensor in document["tensors"]}
    assert stats["x"] == {"min": -2.0, "max": 1.0, "mean": -0.5, "nan": 1, "inf": 1}
    assert stats["empty"] == {"min": None, "max": None, "mean": None, "nan": 0, "inf": 0}
    assert stats["s"] is None


def test_quiet(ckpt: Callable) -> None:
    answer = ckpt("inspect", pick("tf2.21").path, "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_json_has_no_infinity(tmp_path: Path, ckpt: Callable, value: str) -> None:
    prefix = build_bundle(tmp_path / "c", {"best_metric": np.array(float(value), np.float32)})
    assert ckpt("inspect", prefix, "--json").json["best_metric"]["value"] == value


def test_a_missing_data_file_still_lists_every_tensor(copy: Callable[..., Path], ckpt: Callable) -> None:
    sample = pick("tf2.21")
    expected = [tensor["name"] for tensor in ckpt("inspect", sample.path, "--json").json["tensors"]]
    experiment = copy(sample)
    data = Path(f"{sample.prefix_in(experiment)}.data-00000-of-00001")
    data.unlink()
    answer = ckpt("inspect", experiment, "--json", "--digest")
    assert answer.code == 1
    assert [tensor["name"] for tensor in answer.json["tensors"]] == expected
    assert not any("sha256" in tensor for tensor in answer.json["tensors"])
    assert any(finding["path"] == str(data) and finding["severity"] == "damage" for finding in answer.json["findings"])
    for options in ((), ("--quiet",)):
        text = ckpt("inspect", experiment, *options)
        assert text.code == 1
        assert "missing" in text.out + text.err, "quiet says nothing unless something is wrong"


HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\nnext\u202e[bold]x[/bold]:smile:"


@pytest.mark.parametrize("options", [(), ("--tree",), ("--stats",)])
def test_terminal_escapes_in_names_are_made_visible(
    tmp_path: Path, ckpt: Callable, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    prefix = build_bundle(tmp_path / "c", {HOSTILE: np.zeros(1), "../../up": np.zeros(1)})
    out = ckpt("inspect", prefix, *options).out
    assert not set(out) & {"\x1b", "\x07", "\r", "\u202e"}
    unfolded = "".join(out.split())
    # The tree breaks a name at each "/".
    for part in ("\\x1b[31mred\\x1b]0;title\\x07\\r\\nnext\\u202e[bold]x[", "bold]:smile:"):
        assert part in unfolded
    assert HOSTILE in [tensor["name"] for tensor in ckpt("inspect", prefix, "--json").json["tensors"]]


def test_terminal_escapes_in_paths_are_made_visible(tmp_path: Path, ckpt: Callable) -> None:
    folder = tmp_path / "\x1b[31m"
    folder.mkdir()
    assert "\x1b" not in ckpt("inspect", build_bundle(folder / "c", {"a": np.zeros(1)})).out
    assert "\x1b" not in ckpt("inspect", folder / "nowhere").err


def test_a_long_list(tmp_path: Path, ckpt: Callable) -> None:
    """Laid out in another way than a short one, line by line the same."""
    names = [f"layer/{number:04d}/kernel" for number in range(1001)]
    lines = ckpt("inspect", build_bundle(tmp_path / "c", {name: np.zeros(1) for name in names})).out.splitlines()
    short = ckpt("inspect", build_bundle(tmp_path / "d", {name: np.zeros(1) for name in names[:1000]})).out.splitlines()
    assert [line for line in lines if "layer" in line][:1000] == [line for line in short if "layer" in line]
    assert lines[-1].endswith("layer/1000/kernel  float64  [1]")


def test_what_killed_saves_left_is_listed_with_the_command_that_tidies(tmp_path: Path, ckpt: Callable) -> None:
    """Row 45 of the faults: ignored by the readers, listed, and moved away by an explicit command only."""
    line = tmp_path / "best_model" / "exp" / "keras_ckpt"
    line.mkdir(parents=True)
    build_bundle(line / "ckpt-1", {"a": np.zeros(3)})
    (line / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n')
    (line / "ckpt-2_temp").mkdir()
    (line / "ckpt-2_temp" / "part-00000-of-00001.index").write_bytes(b"half")
    left = ["ckpt-2_temp", "ckpt-3.index.tempstate123", "checkpoint.tmp0123456789abcdef"]
    for name in (*left[1:], "ckpt-4.data-00000-of-00001"):
        (line / name).write_bytes(b"half")
    (line / ".ckpt-tools").mkdir()
    (line / ".ckpt-tools" / "pending.json").write_bytes(b"half")
    experiment = str(line.parent)
    os.utime(line, (10**6, 10**6))

    def notes() -> dict[str, set[str]]:
        document = ckpt("inspect", experiment, "--json").json
        found: dict[str, set[str]] = {}
        for finding in document["findings"]:
            assert (finding["severity"], finding["fix"]) == ("note", f"ckpt repair {experiment}")
            found.setdefault(finding["id"], set()).add(os.path.relpath(finding["path"], line))
        return found

    orphan, change = {"ckpt-4.data-00000-of-00001"}, {".ckpt-tools/pending.json"}
    assert notes() == {"left-over": set(left), "orphan": orphan, "unfinished-change": change}
    assert "under way" in ckpt("inspect", experiment).out
    for path in (*line.rglob("*"), line):
        os.utime(path, (10**6, 10**6))
    assert "left over by a save that was killed" in ckpt("inspect", experiment).out
    (line / ".ckpt-tools" / "pending.json").unlink()
    assert ckpt("repair", experiment).code == 0
    os.utime(line, (10**6, 10**6))
    assert notes() == {"orphan": orphan}, "data may be somebody's last copy: it stays"
    assert ckpt("inspect", str(line / "ckpt-1"), "--json").json["findings"] == [], "asked of one, it says nothing"


OTHER_NAMES = (
    "best",
    "best_value",
    "best_score",
    "best_model_value",
    "best_val_loss",
    "best_valid_accuracy",
    "best_ppl",
)


@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize(
    ("value", "status"), [(0.25, "present"), (0.0, "unset"), (-1.0, "unset"), (np.inf, "unset"), (-np.inf, "unset")]
)
def test_other_names_of_the_best_and_the_values_they_start_from(
    tmp_path: Path, ckpt: Callable, name: str, value: float, status: str
) -> None:
    """As public training code has them; a value that such a variable starts from was never set."""
    prefix = build_bundle(tmp_path / "x", {name: np.float32(value), "kernel": np.zeros(3)})
    best = ckpt("inspect", prefix, "--json").json["best_metric"]
    assert (best["status"], best["key"]) == (status, name)
    assert name in best["meaning"]
