"""Lists for people and services: whose items they are, in files, in an index, in a SavedModel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from old_experiments import DATA, LEFT_BEHIND, path_of
from toys import ITEMS, small_config
from typer.testing import CliRunner

from trainer import cli
from trainer.data.interactions import read_interactions, read_split
from trainer.data.names import Names, read_names
from trainer.evaluation import indexes
from trainer.evaluation.full_report import lists_of
from trainer.evaluation.lists import lists_for, write_lists
from trainer.evaluation.measuring import first_true, numpy_model
from trainer.models.variables import initial_variables

DR = next(entry for entry in LEFT_BEHIND if (entry["root"], entry["model_type"]) == ("tf2.10", "ComiRec-DR"))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [*map(str, arguments)])


def model_of(model_type: str) -> Any:
    config = small_config(model_type)
    return numpy_model(config, initial_variables(config))


@pytest.mark.parametrize("model_type", ["ComiRec-SA", "MIND"])
def test_a_list_is_what_the_evaluation_ranks_without_what_was_seen(data_dir: str, model_type: str) -> None:
    model, valid = model_of(model_type), read_split(data_dir, "toys", "valid")
    cuts = first_true(valid)
    whole = list(lists_for(model, valid, cuts, maxlen=6, top_n=ITEMS, with_seen=True))
    for one, (items, scores) in zip(whole, lists_of(model, valid, maxlen=6, top_n=ITEMS), strict=True):
        assert one.items.tolist() == items.tolist()
        np.testing.assert_allclose(one.scores, scores, rtol=1e-5)
    unseen = list(lists_for(model, valid, cuts, maxlen=6, top_n=10))
    for place, (one, all_of_them) in enumerate(zip(unseen, whole, strict=True)):
        seen = set(valid.items[valid.offsets[place] : valid.offsets[place] + cuts[place]].tolist())
        assert len(seen) > 2
        assert one.items.tolist() == [item for item in all_of_them.items.tolist() if item not in seen][:10]
    assert [one.user for one in unseen] == valid.users.tolist()


def test_equal_scores_go_by_id_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    config = small_config("DNN", item_count=6, neg_num=1, batch_size=1)
    weights = initial_variables(config)
    weights["model/item_embedding"][:] = 0
    (tmp_path / "users.txt").write_text("7,3,1\n7,5,2\n")
    users = read_interactions(str(tmp_path / "users.txt"))
    (one,) = lists_for(numpy_model(config, weights), users, users.lengths, maxlen=6, top_n=50)
    assert one.items.tolist() == [1, 2, 4]
    (two,) = lists_for(numpy_model(config, weights), users, users.lengths, maxlen=6, top_n=2)
    assert two.items.tolist() == [1, 2]


def test_both_kinds_of_files_hold_the_same(tmp_path: Path, data_dir: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    valid = read_split(data_dir, "toys", "valid")
    first = int(valid.users[0])
    names = Names({first: "Ünal, A."}, {item: f"B{item:04}" for item in range(1, 60)})

    def lists() -> Any:
        return lists_for(model_of("ComiRec-DR"), valid, first_true(valid), maxlen=6, top_n=5)

    for name in ("lists.jsonl", "lists.parquet"):
        assert write_lists(str(tmp_path / name), lists(), names) == len(valid.users)
    rows = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    table = parquet.read_table(tmp_path / "lists.parquet").to_pylist()
    assert rows[0]["name"] == "Ünal, A."
    assert rows[1]["name"] is None
    assert any(item["name"] is None for row in rows for item in row["items"])
    for row, other in zip(rows, table, strict=True):
        assert (row["user"], row["name"]) == (other["user"], other["name"])
        assert [item["item"] for item in row["items"]] == other["items"]
        assert [item["name"] for item in row["items"]] == other["item_names"]
        assert [item["score"] for item in row["items"]] == other["scores"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.jsonl", "lists.parquet"]


def test_names_come_from_the_maps_of_prepare(tmp_path: Path) -> None:
    (tmp_path / "toys_user_map.txt").write_text('"Ünal, ""A"".",0\nB,1\n')
    assert read_names(str(tmp_path), "toys") == Names({0: 'Ünal, "A".', 1: "B"}, {})


def test_lists_of_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "lists.jsonl"
    result = run("evaluate", path_of(DR), "--data-dir", DATA, "--top-n", 5, "--lists", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["lists"] == str(out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {len(row["items"]) for row in rows} == {5}
    again = run("evaluate", path_of(DR), "--data-dir", DATA, "--lists", out)
    assert again.exit_code == 2
    assert "there is such a file already" in again.stderr
    users = tmp_path / "histories.txt"
    users.write_text("9,3,1\n9,4,2\n2,7,1\n")
    flags = ("--users", users, "--lists", tmp_path / "two.jsonl", "--top-n", 3)
    exported = run("export", path_of(DR), tmp_path / "out", *flags, "--json")
    assert exported.exit_code == 0, exported.output
    rows = [json.loads(line) for line in (tmp_path / "two.jsonl").read_text().splitlines()]
    assert [row["user"] for row in rows] == [2, 9]
    assert not {item["item"] for item in rows[1]["items"]} & {3, 4}
    for arguments, said in (
        (["--lists", tmp_path / "x"], "--lists are of users"),
        (["--with-seen"], "--with-seen is about --lists"),
    ):
        refused = run("export", path_of(DR), tmp_path / "none", *arguments)
        assert refused.exit_code == 2
        assert said in refused.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_finds_most_of_what_the_exact_one_finds(tmp_path: Path, kind: Any) -> None:
    faiss = pytest.importorskip("faiss")
    random = np.random.default_rng(3)
    centers = random.standard_normal((20, 8))
    items = (centers[random.integers(20, size=2000)] + 0.3 * random.standard_normal((2000, 8))).astype(np.float32)
    built = indexes.build(kind, items)
    assert (built.ntotal, built.metric_type) == (2000, faiss.METRIC_INNER_PRODUCT)
    found = indexes.tried(built, items, items[:50], 20)
    assert 0.9 < found.recall <= 1
    assert found.milliseconds > 0
    out = tmp_path / "out"
    result = run("export", path_of(DR), out, "--index", kind, "--json")
    assert result.exit_code == 0, result.output
    assert 0.9 < json.loads(result.stdout)["index"]["recall"] <= 1
    assert faiss.read_index(str(out / "items.faiss")).ntotal == 1400


@pytest.mark.tensorflow
@pytest.mark.parametrize("model_type", ["DNN", "GRU4REC", "MIND", "ComiRec-DR", "ComiRec-SA"])
def test_a_saved_model_gives_the_lists_of_the_trainer(tmp_path: Path, data_dir: str, model_type: str) -> None:
    import tensorflow as tf

    from trainer.evaluation.serving import save

    model, valid = model_of(model_type), read_split(data_dir, "toys", "valid")
    served = tf.saved_model.load(save(model, str(tmp_path), 10)).signatures
    # Longer than the model sees, of different lengths, with gaps and with an id that nobody knows.
    longest = int(valid.lengths.max())
    history = np.zeros((len(valid.users), longest + 2), np.int64)
    for user, length in enumerate(valid.lengths):
        history[user, 1 : length + 1] = valid.items[valid.offsets[user] : valid.offsets[user] + length]
    history[:, 0] = ITEMS + 5
    for signature, with_seen in (("serving_default", True), ("unseen", False)):
        found = {name: value.numpy() for name, value in served[signature](history=tf.constant(history)).items()}
        assert found["items"].shape == found["scores"].shape == (len(valid.users), 10)
        flags: dict[str, Any] = {"maxlen": 6, "top_n": 10, "with_seen": with_seen}
        if model_type == "MIND":  # its noise is that of a first user, for everybody
            first = read_first(tmp_path, valid)
            expected = list(lists_for(model, first, first.lengths, **flags))
        else:
            expected = list(lists_for(model, valid, valid.lengths, **flags))
        for place, one in enumerate(expected):
            np.testing.assert_allclose(found["scores"][place], one.scores, rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(found["items"][place], one.items)
    nobody = served["unseen"](history=tf.zeros([1, 3], tf.int64))["items"].numpy()
    assert 0 not in nobody


def read_first(directory: Path, split: Any) -> Any:
    """The first user of a split, as a split."""
    items = split.items[: split.lengths[0]]
    path = directory / "first.txt"
    path.write_text("".join(f"{split.users[0]},{item},{time}\n" for time, item in enumerate(items)))
    return read_interactions(str(path))


@pytest.mark.tensorflow
def test_a_saved_model_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "saved_model").mkdir()
    result = run("export", path_of(DR), tmp_path, "--saved-model")
    assert result.exit_code == 2
    assert "there is a SavedModel already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model"], "nor is what lies beside it"


def test_names_that_nothing_has_are_not_looked_for_in_silence(tmp_path: Path) -> None:
    alone = run("export", path_of(DR), tmp_path / "out", "--data-dir", DATA)
    assert (alone.exit_code, "--lists" in alone.stderr) == (2, True)
    lists = ["--users", f"{DATA}/book_test.txt", "--lists", tmp_path / "lists.jsonl"]
    assert run("export", path_of(DR), tmp_path / "out", *lists, "--data-dir", tmp_path / "none").exit_code == 3
    assert not list(tmp_path.iterdir())
