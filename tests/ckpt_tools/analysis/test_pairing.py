"""Which tensor of one checkpoint is which of another: by graph and names, never by position."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from checkpoints import EXPERIMENTS, build_bundle, pick
from objects import build_objects

from ckpt_tools.analysis.difference import diff
from ckpt_tools.analysis.pairing import pair
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.lineages.naming import by_canonical_name
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.base import TensorInfo

FAMILIES = sorted((Path(__file__).parents[2] / "golden" / "names").glob("*.jsonl"))


def pairs_of(a: str, b: str) -> dict[str, str]:
    """The stored key of A by that of B that it is paired with."""
    with open_checkpoint(a) as first, open_checkpoint(b) as second:
        return {
            left.keys[0].split("/.A")[0]: right.keys[0].split("/.A")[0]
            for left, right in pair(by_canonical_name(first), by_canonical_name(second))
        }


def value(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.stem)
def test_every_tensor_is_itself(family: Path) -> None:
    head, *rows = map(json.loads, family.read_text().splitlines())
    graph = ObjectGraph(base64.b64decode(head["graph"])) if "graph" in head else None
    tensors = {key: TensorInfo(key, dtype, tuple(shape), 0) for key, dtype, shape, *_ in rows}
    named = by_canonical_name(SimpleNamespace(tensors=tensors, graph=graph, prefix="x", format="keras-h5"))  # type: ignore[arg-type]
    found = pair(named, dict(named))
    assert {left.name: right.name for left, right in found} == {name: name for name in named}


def test_the_moment_of_one_model_is_not_that_of_another_at_its_place() -> None:
    """Under Keras 3 both are ``optimizer/_variables/4``."""
    found = diff(str(pick("tf2.21").path), str(pick("tf2.21", "ComiRec-SA").path))
    assert {change.name: change.key_b for change in found.changed if change.name.startswith("optimizer/m")} == {
        "optimizer/m/item_embedding": "optimizer/_variables/2/.ATTRIBUTES/VARIABLE_VALUE"
    }
    assert "optimizer/m/proj/kernel" in found.only_a
    assert "optimizer/m/attention/hidden/kernel" in found.only_b
    for change in found.changed:
        assert change.kind == "values"


@pytest.mark.parametrize("other", [sample for sample in EXPERIMENTS if sample.model_type == "MIND"], ids=lambda s: s.id)
def test_lineages_of_one_model_pair_all_that_both_have(other: object) -> None:
    found = diff(str(pick("tf2.10", "MIND").path), str(other.path))  # type: ignore[attr-defined]
    assert not any(name.startswith(("model/", "optimizer/m", "optimizer/v")) for name in found.only_a)


def test_save_weights_and_a_checkpoint_of_the_model(tmp_path: Path) -> None:
    dense = {"kernel": ("dense/kernel", value(3, 2)), "bias": ("dense/bias", value(2))}
    last = {"kernel": ("dense_1/kernel", value(2, 2)), "bias": ("dense_1/bias", value(2))}
    layers = {**{f"layer_with_weights-0/{n}": v for n, v in dense.items()}}
    layers |= {f"layer_with_weights-1/{n}": v for n, v in last.items()}
    state = {"optimizer/iter": ("Adam/iter", np.int64(3)), "optimizer/learning_rate": ("Adam/lr", np.float32(1))}
    slots = {(path, name): values for path, (_, values) in layers.items() for name in "mv"}
    weights = build_objects(tmp_path / "weights", {**layers, **state}, slots)
    named = {f"model/{path}": found for path, found in layers.items()}
    whole = build_objects(
        tmp_path / "whole",
        {**named, **state, "epoch": ("epoch", np.int64(1))},
        {(f"model/{path}", name): values for (path, name), values in slots.items()},
    )
    found = diff(weights, whole)
    assert (found.only_a, found.only_b, found.changed) == ((), ("epoch",), ())
    assert pairs_of(weights, whole)["layer_with_weights-1/bias/.OPTIMIZER_SLOT/optimizer/v"] == (
        "model/layer_with_weights-1/bias/.OPTIMIZER_SLOT/optimizer/v"
    )


@pytest.mark.parametrize("suffix", [":0", ""], ids=["Keras 2", "Keras 3"])
def test_a_bundle_and_a_keras_file_meet_in_full_names(suffix: str, tmp_path: Path) -> None:
    layers = {"one": ("one/kernel", value(3, 2)), "two": ("two/kernel", value(2, 2))}
    bundle = build_objects(
        tmp_path / "ckpt",
        {f"layer_with_weights-{n}/kernel": found for n, found in enumerate(layers.values())}
        | {"optimizer/iter": ("Adam/iter", np.int64(3)), "optimizer/lr": ("lr", np.float32(1))},
        {
            (f"layer_with_weights-{n}/kernel", slot): found[1]
            for n, found in enumerate(layers.values())
            for slot in "mv"
        },
    )
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        for name, (full_name, values) in layers.items():
            inner = full_name if suffix else f"sequential/{full_name}"
            file[f"model_weights/{name}/{inner}{suffix}"] = values
            flat = full_name.replace("/", "_")
            for slot, word in (("m", "momentum"), ("v", "velocity")):
                stored = f"Adam/{full_name}/{slot}:0" if suffix else f"adam/sequential_{flat}_{word}"
                file[f"optimizer_weights/{stored}"] = values
    found = diff(bundle, str(path))
    assert (found.only_a, found.only_b, found.changed, found.same) == (("optimizer/iter", "optimizer/lr"), (), (), 6)


def test_places_that_only_count_are_one_variable_only_where_it_is_called_alike(tmp_path: Path) -> None:
    first = build_objects(
        tmp_path / "a", {"layers/0/w": ("encoder/w", value(2, 2)), "layers/1/w": ("head/w", value(2, 2))}
    )
    second = build_objects(
        tmp_path / "b", {"layers/0/w": ("head/w", value(2, 2)), "layers/1/w": ("other/w", value(2, 2))}
    )
    assert pairs_of(first, second) == {"layers/1/w": "layers/0/w"}
    again = build_objects(
        tmp_path / "c", {"layers/0/w": ("encoder_3/w", value(2, 2)), "layers/1/w": ("head_1/w", value(2, 2))}
    )
    assert pairs_of(first, again) == {"layers/0/w": "layers/0/w", "layers/1/w": "layers/1/w"}


def test_numbered_moments_of_unlike_models_are_not_paired(tmp_path: Path) -> None:
    for name, shapes in (("a", [(2, 2), (2,)]), ("b", [(2, 2), (2,), (3,)])):
        with h5py.File(tmp_path / f"{name}.weights.h5", "w") as file:
            file["layers/dense/vars/0"] = value(2, 2)
            file["optimizer/vars/0"] = np.int64(1)
            for number, shape in enumerate(shapes, 1):
                file[f"optimizer/vars/{number}"] = value(*shape)
    found = diff(str(tmp_path / "a.weights.h5"), str(tmp_path / "b.weights.h5"))
    assert [name for name in found.only_a if name.startswith("optimizer")] == [f"optimizer/vars/{n}" for n in range(3)]
    same = diff(str(tmp_path / "a.weights.h5"), str(tmp_path / "a.weights.h5"))
    assert same.equal


def test_a_table_that_has_grown_is_the_same_variable(tmp_path: Path) -> None:
    paths = {
        name: build_objects(
            tmp_path / name, {"layer_with_weights-0/embeddings": ("embedding/embeddings", value(rows, 3))}
        )
        for name, rows in (("old", 4), ("new", 6))
    }
    (change,) = diff(paths["old"], paths["new"]).changed
    assert (change.kind, change.shape_a, change.shape_b) == ("shape", (4, 3), (6, 3))


def test_slots_of_two_optimizers_are_not_mixed(tmp_path: Path) -> None:
    adam = build_bundle(tmp_path / "adam", dict.fromkeys(("w", "w/Adam", "w/Adam_1"), value(2, 2)))
    other = build_bundle(tmp_path / "other", dict.fromkeys(("w", "w/RMSProp", "w/Momentum"), value(2, 2)))
    bert = build_bundle(tmp_path / "bert", dict.fromkeys(("w", "w/adam_m", "w/adam_v"), value(2, 2)))
    assert pairs_of(adam, other) == {"w": "w"}
    assert pairs_of(adam, bert) == {"w": "w", "w/Adam": "w/adam_m", "w/Adam_1": "w/adam_v"}


def test_values_that_no_array_has_are_compared_by_their_bytes(tmp_path: Path) -> None:
    paths = []
    for name, content in (("a", 1), ("b", 1), ("c", 2)):
        stored = np.full((), content, np.uint8)
        paths.append(build_bundle(tmp_path / name, {"state": stored}, change={"state": {"dtype": _variant()}}))
    assert diff(paths[0], paths[1]).equal
    (change,) = diff(paths[0], paths[2]).changed
    assert (change.kind, change.elements) == ("values", None)


def _variant() -> object:
    from ckpt_tools.format.dtypes import BY_NAME

    return BY_NAME["variant"]
