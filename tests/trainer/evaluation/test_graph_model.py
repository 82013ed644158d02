"""Old experiments measured by their own graph: the recall that their trainer logged."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import FIXTURES

from ckpt_tools.errors import MismatchError, NotFoundError, UnsupportedError
from ckpt_tools.format.graph_def import Node, Output, parse_output
from ckpt_tools.graphs.interpreter import Interpreter
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.operations.backfill_options import Options
from ckpt_tools.operations.backfilling import backfill
from ckpt_tools.operations.evaluators import find_graph_evaluator
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.run_graph import read_run_graph
from trainer.evaluation.graph_model import HISTORY, MASK, GraphModel, user_vectors_in

TF1 = FIXTURES / "experiments" / "tf1.15" / "best_model"
DATA = str(FIXTURES / "data")


@pytest.mark.parametrize("model", ["DNN", "ComiRec-DR"])
def test_the_graph_gives_the_logged_recall(model: str) -> None:
    (experiment,) = TF1.glob(f"*_{model}")
    done = backfill(str(experiment), Options(DATA, dry_run=True, force=True, lock=False, graph=True))
    assert done.agreement == "match"
    assert done.measurement is not None
    assert done.measurement.graph is not None
    assert done.to_json()["metric"]["graph"] == done.measurement.graph
    assert "by its own graph" in done.sentence
    assert done.plan is not None
    assert done.plan.to_json()["evidence"]["measured"]["graph"] == done.measurement.graph


def test_the_vectors_are_those_of_the_model_over_numpy() -> None:
    (experiment,) = TF1.glob("*_ComiRec-DR")
    with open_checkpoint(str(experiment / "model.ckpt")) as checkpoint:
        lineage = identify(checkpoint)
        assert isinstance(lineage, ComiRecLineage)
        ours = find_graph_evaluator(lineage)
        found = ours.measure_graph(
            checkpoint, lineage, read_run_graph(checkpoint), data_dir=DATA, split="test", top_n=20
        )
        plain = ours.measure(checkpoint, lineage, data_dir=DATA, split="test", top_n=20)  # type: ignore[attr-defined]
    assert found.value == pytest.approx(plain.value, abs=1e-12)
    assert found.details == pytest.approx(plain.details)


def test_a_run_without_a_graph_is_told() -> None:
    experiment = next((FIXTURES / "experiments" / "tf2.21" / "best_model").iterdir())
    with pytest.raises(NotFoundError, match="no graph beside the checkpoint"):
        backfill(str(experiment), Options(DATA, dry_run=True, force=True, lock=False, graph=True))


# ------------------------------------------------------------------------------------------------ graphs by hand


def nodes(*rows: tuple[str, str, tuple[str, ...]]) -> dict[str, Node]:
    return {name: Node(name, op, tuple(map(parse_output, inputs))) for name, op, inputs in rows}


FED = ((HISTORY.node, "Placeholder", ()), (MASK.node, "Placeholder", ()))


def test_the_vectors_are_what_the_loss_takes_or_what_is_read_out_of() -> None:
    one = nodes(*FED, ("sampled_softmax_loss/MatMul", "MatMul", ("dense", "w")))
    assert user_vectors_in(one) == Output("dense")
    several = nodes(
        *FED,
        ("sampled_softmax_loss/MatMul", "MatMul", ("out", "w")),
        ("out", "GatherV2", ("flat", "ids", "axis")),
        ("flat", "Reshape", ("interests:1", "shape")),
    )
    assert user_vectors_in(several) == Output("interests", 1)
    with pytest.raises(UnsupportedError, match="not that of the original ComiRec trainer"):
        user_vectors_in(nodes(*FED))


class Plain:
    """What is asked of a model beside the vectors."""

    excludes_padding = padding_takes_a_place = False
    item_embedding = np.zeros((9, 4), np.float32)

    def noise(self, *_: object) -> None:
        return None

    def user_vectors(self, *_: object) -> None:
        raise AssertionError


def test_what_are_no_vectors_of_the_users_is_refused() -> None:
    history, mask = np.zeros((2, 5), np.int32), np.zeros((2, 5), np.float32)
    made = nodes(*FED, ("sampled_softmax_loss/MatMul", "MatMul", (MASK.node, "w")))
    with pytest.raises(MismatchError, match=r"gives \[2, 5\]"):
        GraphModel(Plain(), Interpreter(made, lambda _: history)).user_vectors(history, mask)
    drawn = nodes(
        *FED,
        ("sampled_softmax_loss/MatMul", "MatMul", ("mine", "w")),
        ("mine", "RandomUniform", (HISTORY.node,)),
    )
    with pytest.raises(UnsupportedError, match="draws random numbers in mine"):
        GraphModel(Plain(), Interpreter(drawn, lambda _: history)).user_vectors(history, mask)
