"""What tensors are, told from their names and shapes: the variables of sixty kinds of programs, and properties.

Each golden file holds the variables that one program saved: a line about the program (what its step and bests are, its
object graph), then for each tensor key, type, shape, group and the variable that it belongs to, as the program's own
objects tell them (`optimizer.get_slot`, `ema.average`), not as they were recognised.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.lineages.tensor_names import (
    Roles,
    bare,
    fits,
    is_best_name,
    is_stop_name,
    tell_roles,
)

FAMILIES = sorted((Path(__file__).parents[2] / "golden" / "names").glob("*.jsonl"))


def _head(family: Path) -> str:
    return family.read_text()


# Keys that are names of variables, not paths of objects or in files, and do not end in :0 already.
NAMED = [family for family in FAMILIES if '"graph"' not in _head(family) and ":0" not in _head(family)]
PLAIN = [family for family in NAMED if "keras" not in family.stem]


@dataclass(frozen=True)
class Described:
    dtype: str
    shape: tuple[int, ...]


def load(family: Path) -> tuple[dict[str, Any], list[list[Any]]]:
    head, *rows = map(json.loads, family.read_text().splitlines())
    return head, rows


def told(tensors: dict[str, tuple[str, tuple[int, ...]]], graph: ObjectGraph | None = None) -> Roles:
    return tell_roles({key: Described(*described) for key, described in tensors.items()}, graph)


def floats(**shapes: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: ("float32", shape) for name, shape in shapes.items()}


def test_there_are_many_families() -> None:
    assert len(FAMILIES) >= 60


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.stem)
def test_every_variable_of_a_program_is_what_the_program_says(family: Path) -> None:
    head, rows = load(family)
    graph = ObjectGraph(base64.b64decode(head["graph"])) if "graph" in head else None
    roles = told({key: (dtype, tuple(shape)) for key, dtype, shape, *_ in rows}, graph)
    assert {key: roles.roles[key].group for key, *_ in rows} == {key: group for key, _, _, group, _ in rows}
    owners = {key: of for key, *_, of in rows if of}
    assert {key: roles.roles[key].of for key in owners} == owners
    assert (roles.steps[0] if roles.steps else None) == head["step"]
    assert sorted(roles.bests) == sorted(head["bests"])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.stem)
def test_a_slot_belongs_to_a_variable_of_the_model_that_it_fits(family: Path) -> None:
    head, rows = load(family)
    graph = ObjectGraph(base64.b64decode(head["graph"])) if "graph" in head else None
    shapes = {key: tuple(shape) for key, _, shape, *_ in rows}
    for key, role in told({key: (dtype, tuple(shape)) for key, dtype, shape, *_ in rows}, graph).roles.items():
        if role.of is not None:
            assert fits(shapes[role.of], shapes[key]), key
            assert role.group in ("optimizer", "average")


@pytest.mark.parametrize("family", NAMED, ids=lambda family: family.stem)
def test_colon_zero_behind_every_name_changes_nothing(family: Path) -> None:
    _, rows = load(family)
    plain = told({key: (dtype, tuple(shape)) for key, dtype, shape, *_ in rows})
    marked = told({f"{key}:0": (dtype, tuple(shape)) for key, dtype, shape, *_ in rows})
    assert [role.group for role in plain.roles.values()] == [role.group for role in marked.roles.values()]
    assert [f"{step}:0" for step in plain.steps] == list(marked.steps)


@pytest.mark.parametrize("family", PLAIN, ids=lambda family: family.stem)
def test_a_scope_around_everything_changes_no_group(family: Path) -> None:
    _, rows = load(family)
    # An optimizer that had a scope of its own would put its slots elsewhere.
    rows = [row for row in rows if row[4] is None or row[0].startswith(row[4])]
    rows = [row for row in rows if "Adam/" not in row[0] and not row[0].startswith("training/")]
    roles = told({f"outer/inner/{key}": (dtype, tuple(shape)) for key, dtype, shape, *_ in rows})
    assert {key: roles.roles[f"outer/inner/{key}"].group for key, *_ in rows} == {row[0]: row[3] for row in rows}


@pytest.mark.parametrize(
    ("slot", "shape"),
    [
        *((name, (4, 3)) for name in ("Adam", "Adam_1", "AdamOptimizer", "LAMB", "lamb_m", "adam_v", "Yogi_2")),
        *((name, (4, 3)) for name in ("my_gan_adam", "MyOptimizer", "SomethingNobodyKnows", "m", "v", "accum_grad")),
        *(("Adafactor", (4,)), ("Adafactor_1", (3,)), ("vr", (4,)), ("vc", (3,)), ("SM3", (4, 1)), ("SM3_1", (1, 3))),
        *(("Novograd_1", ()), ("Shampoo_1", (4, 4)), ("Shampoo_2", (3, 3))),
    ],
)
@pytest.mark.parametrize("scope", ["", "train/", "training/deep/"])
def test_a_name_below_a_variable_with_its_shape_is_a_slot_of_it(slot: str, shape: tuple[int, ...], scope: str) -> None:
    names = {"dense/kernel": ("float32", (4, 3)), f"{scope}dense/kernel/{slot}": ("float32", shape)}
    role = told(names).roles[f"{scope}dense/kernel/{slot}"]
    assert (role.group, role.of, role.slot) == ("optimizer", "dense/kernel", slot)


@pytest.mark.parametrize("average", ["ExponentialMovingAverage", "ema", "moving_avg", "shadow", "Polyak", "EMA_1"])
def test_an_average_is_a_group_of_its_own(average: str) -> None:
    for name in (f"dense/kernel/{average}", f"avg/dense/kernel/{average}", f"{average}/dense/kernel"):
        role = told({"dense/kernel": ("float32", (4, 3)), name: ("float32", (4, 3))}).roles[name]
        assert (role.group, role.of) == ("average", "dense/kernel"), name


@pytest.mark.parametrize("suffix", ["slot_v", "moving_avg", "ema", "momentum", "accumulator"])
def test_a_word_behind_an_underscore_is_attached_too(suffix: str) -> None:
    name = f"block/kernel_{suffix}"
    role = told({"block/kernel": ("float32", (4, 3)), name: ("float32", (4, 3))}).roles[name]
    assert role.of == "block/kernel"
    assert role.group == ("average" if suffix in ("moving_avg", "ema") else "optimizer")


@pytest.mark.parametrize(
    "names",
    [
        ("dense/kernel", "dense_1/kernel"),
        ("Variable", "Variable_1"),
        ("w", "w_1"),
        ("w", "w_m"),
        ("encoder/w", "decoder/w"),
        ("bn/gamma", "bn/moving_mean"),
        ("tower/kernel", "tower/kernel/bias"),
        ("attention/v", "attention/m"),
    ],
)
def test_weights_of_one_shape_are_no_slots_of_each_other(names: tuple[str, str]) -> None:
    assert {role.group for role in told(floats(**dict.fromkeys(names, (4, 3)))).roles.values()} == {"model"}


def test_the_averages_of_batch_normalization_are_the_models_with_all_that_they_keep() -> None:
    names = ["bn/moving_mean", "bn/moving_mean/biased", "bn/moving_variance", "bn/moving_variance/biased"]
    roles = told({**floats(**dict.fromkeys(names, (3,))), "bn/moving_mean/local_step": ("float32", ())})
    assert {role.group for role in roles.roles.values()} == {"model"}


def test_what_hangs_on_a_moving_average_is_part_of_it() -> None:
    names = ["w", "w/ExponentialMovingAverage", "w/ExponentialMovingAverage/biased"]
    roles = told(floats(**dict.fromkeys(names, (3, 2)))).roles
    assert (roles[names[2]].group, roles[names[2]].of) == ("average", "w")


@pytest.mark.parametrize("name", ["beta1_power", "train/beta2_power_1", "a/b/beta1_power_12", "beta1_power:0"])
def test_powers_of_beta_are_the_optimizers(name: str) -> None:
    assert told(floats(**{name: ()})).roles[name].group == "optimizer"


@pytest.mark.parametrize(
    "name",
    [
        *("best", "best_acc", "best_val_loss", "best_metric:0", "best_bleu", "bestValAcc", "val_acc_best", "best_ppl"),
        *("trainer/best_recall", "best/ndcg", "max_auc", "min_val_loss", "BestScore", "state/best_hr_10_value"),
    ],
)
def test_a_best_is_told_under_anybodys_name(name: str) -> None:
    roles = told(floats(w=(3,), **{name: ()}))
    assert roles.bests == (name,)
    assert roles.roles[name].group == "state"
    assert not roles.stops


@pytest.mark.parametrize(
    "name",
    [
        *("ckpts_since_best", "best_step", "best_epoch", "steps_since_best", "best_ckpt_global_step", "patience"),
        *("signal_early_stopping/STOP", "early_stopping/wait", "num_bad_epochs", "wait_counter", "stopped_epoch"),
    ],
)
def test_a_counter_beside_the_best_is_none(name: str) -> None:
    roles = told({name: ("int64", ())})
    assert (roles.bests, roles.stops) == ((), (name,))
    assert roles.roles[name].group == "state"


def test_a_best_is_a_number_not_a_table_nor_a_text() -> None:
    tensors = {"best_head/kernel": ("float32", (3, 3)), "best_acc": ("float32", (2,)), "best_path": ("string", ())}
    assert told({**tensors, "best_model": ("complex64", ()), "best_found": ("bool", ())}).bests == ()


@pytest.mark.parametrize(
    "name", ["global_step", "global_step:0", "SASRec/global_step", "step", "train_step", "iterations", "num_updates"]
)
def test_a_step_is_told_in_any_scope_and_type(name: str) -> None:
    for dtype in ("int32", "int64", "float32", "bfloat16", "uint64"):
        assert told({"w": ("float32", (3,)), name: (dtype, ())}).steps == (name,)


@pytest.mark.parametrize("name", ["warmup_steps", "decay_steps", "good_steps", "local_step", "best_step", "step_size"])
def test_other_steps_are_not_the_step(name: str) -> None:
    assert told({"w": ("float32", (3,)), name: ("int64", ())}).steps == ()


@pytest.mark.parametrize(
    ("name", "dtype", "counts"),
    [
        ("global_step", "int64", True),
        ("global_step", "float32", True),
        ("train/global_step:0", "int32", True),
        ("step", "int64", True),
        ("num_updates", "uint64", True),
        # What learns the step of a quantization is a weight, and so is any other single number.
        ("layer/step", "float32", False),
        ("layer/bias", "int64", False),
    ],
)
def test_a_step_may_be_the_one_number_of_a_list(name: str, dtype: str, counts: bool) -> None:
    roles = told({name: (dtype, (1,)), "dense/kernel": ("float32", (4, 3))})
    assert roles.steps == ((name,) if counts else ())
    assert roles.roles[name].group == ("state" if counts else "model")


def test_the_global_step_comes_before_an_optimizers_iterations_and_those_before_others() -> None:
    names = ["step", "optimizer/iterations", "global_step"]
    assert told(dict.fromkeys(names, ("int64", ()))).steps == ("global_step", "optimizer/iterations", "step")


_PART = st.sampled_from(["a", "w", "kernel", "Adam", "Adam_1", "ema", "optimizer", "m", "best", "x_m", "", ":0"])
_NAMES = st.lists(_PART | st.text(max_size=6), min_size=1, max_size=6).map("/".join)
_TENSORS = st.dictionaries(
    _NAMES,
    st.tuples(
        st.sampled_from(["float32", "int64", "bool", "string", "bfloat16", "complex64", "variant"]),
        st.sampled_from([(), (1,), (4,), (3,), (4, 3), (0, 1 << 61), (1,) * 70]),
    ),
    max_size=12,
)


@given(_TENSORS)
@settings(max_examples=300, deadline=None)
def test_every_tensor_has_one_role_whatever_the_names_are(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    roles = told(tensors)
    assert roles.roles.keys() == tensors.keys()
    assert {*roles.steps, *roles.bests, *roles.stops} <= tensors.keys()
    for key, role in roles.roles.items():
        assert role.group in ("model", "average", "optimizer", "state")
        assert role.of is None or (role.of in tensors and role.of != key)
        assert role.of is None or roles.roles[role.of].of is None or roles.roles[role.of].group == "model"


@given(_TENSORS)
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_names_does_not_matter(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    # Names that say the same are two tensors of one name, of which the first is meant.
    if len({bare(name) for name in tensors}) == len(tensors):
        backwards = dict(reversed(tensors.items()))
        assert told(tensors).roles == told(backwards).roles


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_name_is_a_best_and_a_counter_at_once(name: str) -> None:
    assert not (is_best_name(name) and is_stop_name(name))
    assert not bare(f"{name}:0").endswith(":0") or name.endswith(":0")


def test_the_cost_of_long_names_is_that_of_their_length() -> None:
    names = ["a/" * 30_000 + "w", "opt/" * 30_000 + "m", "x" + "_m" * 30_000, "Adam/" * 30_000 + "best_step" * 3_000]
    assert len(told(floats(**dict.fromkeys(names, ()))).roles) == 4
