"""``ckpt inspect``: its text, its JSON, and what it says of damage."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, FIXTURES, Sample, build_bundle, pick
from rich.table import Table
from rich.text import Text

from ckpt_tools.console.output import Output

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
        if not line.startswith(("warning[", "  next: ")):
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
    assert set(document["best_metric"]) == {"status", "value", "key", "meaning", "others"}
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
    nothing = ckpt("inspect", pick("tf2.21").path, "--json", "--filter", "nothing").json
    assert nothing["tensors"] == []
    assert [finding["id"] for finding in nothing["findings"] if finding["id"] == "nothing-shown"] == ["nothing-shown"]


def test_a_filter_that_is_misspelt(ckpt: Callable, tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"dense/kernel[0]": np.ones(3, np.float32), "w": np.ones(3, np.float32)})
    (finding,) = ckpt("inspect", prefix, "--json", "--filter", "dense/kernal[[]0]").json["findings"]
    assert finding["message"].startswith("none of the 2 tensors has a name that matches dense/kernal[[]0]; the nearest")
    *_, filter = shlex.split(finding["fix"])
    assert [row["name"] for row in ckpt("inspect", prefix, "--json", "--filter", filter).json["tensors"]] == [
        "dense/kernel[0]"
    ]


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


def test_terminal_escapes_in_the_name_of_a_best_value_are_made_visible(tmp_path: Path, ckpt: Callable) -> None:
    prefix = build_bundle(tmp_path / "c", {"best_\x1b[31m\u2066recall": np.float32(0.5), "a": np.zeros(1)})
    assert not set(ckpt("inspect", prefix).out) & {"\x1b", "\u2066"}


@pytest.mark.parametrize("terminal", [True, False])
def test_what_was_forgotten_is_made_visible_where_all_is_printed(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A colour of ours stays one on a terminal."""
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    table = Table(title="t\u2066")
    table.add_column("\x1b[2J", style="bold red")
    table.add_row("a\rb")
    Output("inspect", None, json=False, quiet=False).line(Text("x\x7fy\nz", style="bold red"), table)
    out = capsys.readouterr().out
    assert not set(out) & {"\u2066", "\r", "\x7f"}
    assert "\x1b[2J" not in out
    assert ("\x1b[1;31m" in out) is terminal
    assert "x\\x7fy" in out
    assert len(out.splitlines()) > 5


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


def test_a_stored_step_is_told_whatever_its_type_and_a_step_that_is_none_is_unknown(
    tmp_path: Path, ckpt: Callable
) -> None:
    import ml_dtypes

    for number, (value, step) in enumerate(
        [
            *(
                (np.dtype(code).type(7), 7)
                for code in ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float16")
            ),
            (np.int64(2**62 + 1), 2**62 + 1),
            (np.uint64(2**63 + 5), 2**63 + 5),
            (np.asarray(5, ml_dtypes.bfloat16), 5),
            (np.float64(-3), -3),
            (np.float32(np.nan), None),
            (np.float32(np.inf), None),
            (np.asarray(1.5, ml_dtypes.bfloat16), None),
            (np.bool_(True), None),
            (np.complex64(1 + 2j), None),
            (np.zeros(2, np.int64), None),
        ]
    ):
        prefix = build_bundle(tmp_path / str(number), {"global_step": np.asarray(value)})
        answer = ckpt("inspect", prefix, "--json")
        assert (answer.code, answer.json["step"], answer.json["findings"]) == (0, step, []), value
        assert ckpt("inspect", prefix).code == 0


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (np.float32(0.5), "present"),
        (np.float64(27.25), "present"),
        (np.int32(3), "present"),
        *((np.float32(start), "unset") for start in (0, -1, np.inf, -np.inf, np.nan, 1e9, 1e10, 99999, 3.4028235e38)),
        (np.int64(2**31), "unset"),
        *((np.float32(measured), "present") for measured in (10, 100, 1000, 0.99, 12345.5)),
    ],
)
def test_a_best_under_another_name_is_present_or_still_what_it_was_created_with(
    value: np.generic, status: str, tmp_path: Path, ckpt: Callable
) -> None:
    prefix = build_bundle(tmp_path / "model", {"w": np.ones(3), "best_loss": np.asarray(value)})
    best = ckpt("inspect", prefix, "--json").json["best_metric"]
    assert (best["status"], best["key"], [other["key"] for other in best["others"]]) == (
        status,
        "best_loss",
        ["best_loss"],
    )
    assert ckpt("inspect", prefix).code == 0


def test_of_several_bests_none_is_preferred_and_all_are_shown(tmp_path: Path, ckpt: Callable) -> None:
    bests = {"best_acc:0": np.float32(0.75), "best_loss:0": np.float32(1.5), "ckpts_since_best:0": np.int64(4)}
    prefix = build_bundle(tmp_path / "model", {name: np.asarray(value) for name, value in bests.items()})
    document = ckpt("inspect", prefix, "--json").json
    assert document["best_metric"]["status"] == "absent"
    assert document["best_metric"]["others"] == [
        {"key": "best_acc:0", "value": 0.75},
        {"key": "best_loss:0", "value": 1.5},
    ]
    assert document["stopping"] == {"ckpts_since_best:0": 4}
    text = ckpt("inspect", prefix).out
    assert "other bests  best_acc:0 0.75, best_loss:0 1.5" in text
    assert "stopping     ckpts_since_best:0 4" in text
    named = build_bundle(
        tmp_path / "named", {**{n: np.asarray(v) for n, v in bests.items()}, "best_metric": np.float32(0.5)}
    )
    best = ckpt("inspect", named, "--json").json["best_metric"]
    assert (best["status"], best["value"], best["key"], len(best["others"])) == ("present", 0.5, "best_metric", 2)


def test_a_run_that_has_stopped_early_is_mentioned(tmp_path: Path, ckpt: Callable) -> None:
    for stopped in (False, True):
        prefix = build_bundle(tmp_path / str(stopped), {"signal_early_stopping/STOP": np.asarray(stopped)})
        answer = ckpt("inspect", prefix)
        assert answer.code == 0
        assert ("stopped early" in answer.out) == stopped


def test_moving_averages_are_a_group_of_their_own(tmp_path: Path, ckpt: Callable) -> None:
    names = ("w", "w/ExponentialMovingAverage", "w/Adam", "w/Adam_1")
    prefix = build_bundle(tmp_path / "model", dict.fromkeys(names, np.ones((3, 2))))
    answer = ckpt("inspect", prefix)
    assert "average: 1 tensor" in answer.out
    assert "optimizer    Adam" in answer.out
    rows = {row["name"]: (row["group"], row["of"]) for row in ckpt("inspect", prefix, "--json").json["tensors"]}
    assert rows["w/ExponentialMovingAverage"] == ("average", "w")
    assert rows["w/Adam_1"] == ("optimizer", "w")


def test_names_that_only_count_are_shown_with_the_names_of_their_variables(tmp_path: Path, ckpt: Callable) -> None:
    from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
    from ckpt_tools.format.object_graph import VALUE_SUFFIX
    from ckpt_tools.format.wire import bytes_field, text_field, varint_field

    key = f"variables/4{VALUE_SUFFIX}"
    attribute = text_field(1, "VARIABLE_VALUE") + text_field(2, "dense/kernel") + text_field(3, key)
    children = bytes_field(1, varint_field(1, 1) + text_field(2, "variables"))
    graph = bytes_field(1, children) + bytes_field(1, bytes_field(1, varint_field(1, 2) + text_field(2, "4")))
    graph += bytes_field(1, bytes_field(2, attribute))
    prefix = build_bundle(
        tmp_path / "variables",
        {key: np.ones((2, 2)), OBJECT_GRAPH_KEY: [graph]},
        change={OBJECT_GRAPH_KEY: {"shape": ()}},
    )
    (row,) = ckpt("inspect", prefix, "--json").json["tensors"]
    assert row["full_name"] == "dense/kernel"
    assert "variables/4 (dense/kernel)" in ckpt("inspect", prefix).out
    assert [row["name"] for row in ckpt("inspect", prefix, "--json", "--filter", "dense/*").json["tensors"]] == [key]


@pytest.mark.parametrize(("suffix", "version"), [(":0", "1 or 2"), ("", "3")])
def test_the_version_of_keras_is_told_by_the_file(suffix: str, version: str, tmp_path: Path, ckpt: Callable) -> None:
    import h5py

    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file[f"model_weights/dense/dense/kernel{suffix}"] = np.ones((2, 2), np.float32)
        file[f"optimizer_weights/Adam/dense/kernel/m{suffix}"] = np.ones((2, 2), np.float32)
    assert f"Keras {version} in HDF5" in ckpt("inspect", path).out
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = np.bytes_("2.3.1")
    assert "Keras 2.3.1 in HDF5" in ckpt("inspect", path).out
    groups = {row["name"]: row["group"] for row in ckpt("inspect", path, "--json").json["tensors"]}
    assert sorted(groups.values()) == ["model", "optimizer"]


def test_what_the_graph_beside_it_is_fed_and_offers(ckpt: Callable) -> None:
    run = FIXTURES / "graphs" / "textcnn"
    document = ckpt("inspect", run, "--json", "--graph").json["graph"]
    assert document["missing"] == []
    assert {"name": "input_x:0", "op": "Placeholder", "dtype": "int32", "shape": [None, 9]} in document["fed"]
    offer = next(each for each in document["offers"] if each["name"] == "probabilities:0")
    assert offer["needs"] == ["input_x", "keep_prob"]
    assert offer["draws"] == ["dropout/random_uniform/RandomUniform"]
    assert "graph" not in ckpt("inspect", run, "--json").json
    text = ckpt("inspect", run, "--graph").out
    assert "input_x:0" in text
    assert "[?, 9]" in text
    assert "operations not interpreted: none" in text
    answer = ckpt("inspect", pick("tf2.21").path, "--graph")
    assert (answer.code, "no graph beside the checkpoint" in answer.err) == (3, True)
