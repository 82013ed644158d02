"""What of a graph makes scores, and what it is fed: nothing that only trains."""

from __future__ import annotations

from collections.abc import Callable

from checkpoints import FIXTURES, pick
from growing import steps

from ckpt_tools.format.graph_def import GraphDef, Node, decode_meta_graph, parse_output
from ckpt_tools.graphs.needs import Fed, inference, needs_of


def graph(*nodes: tuple[str, str, tuple[str, ...]]) -> dict[str, Node]:
    return {name: Node(name, op, tuple(map(parse_output, inputs))) for name, op, inputs in nodes}


TRAINED = graph(
    ("x", "Placeholder", ()),
    ("w", "VariableV2", ()),
    ("w/init", "Const", ()),
    ("w/Assign", "Assign", ("w", "w/init")),
    ("w/read", "Identity", ("w",)),
    ("score", "MatMul", ("x:0", "w/read")),
    ("loss/square", "Square", ("score",)),
    ("gradients/score", "Mul", ("score", "w/read")),
    ("Adam/update", "ApplyAdam", ("w", "gradients/score")),
    ("save/SaveV2", "SaveV2", ("w",)),
    ("aside", "Const", ()),
)


def test_what_is_fed_and_what_that_needs_is_counted() -> None:
    assert inference(TRAINED) == {"x", "w", "w/read", "score"}
    fed = graph(("data", "RangeDataset", ()), ("next", "IteratorGetNext", ("data",)))
    assert inference(fed) == {"next"}


def test_a_graph_says_what_it_takes_and_what_it_cannot_be_interpreted_for() -> None:
    unknown = graph(("odd", "Odd", ("score",)), ("logits", "Neg", ("odd",)), ("mean", "Mean", ("score", "aside")))
    found = needs_of(GraphDef({**TRAINED, **unknown}))
    assert [each.name for each in found.fed] == ["x:0"]
    assert found.missing == ("Odd",)
    offers = {each.name: (each.needs, each.missing, each.draws) for each in found.offers}
    assert offers == {
        "score:0": (("x",), (), ()),
        "logits:0": (("x",), ("Odd",), ()),
        "mean:0": (("x",), (), ()),
    }


def test_an_old_trainer_is_fed_its_batch() -> None:
    with open(f"{pick('tf1.15').full_prefix}.meta", "rb") as file:
        found = needs_of(decode_meta_graph(file.read()))
    assert Fed("Inputs/mid_his_batch_ph:0", "Placeholder", "int32", (None, None)) in found.fed
    assert "GatherV2" not in found.missing


def test_a_loop_offers_what_leaves_it() -> None:
    found = needs_of(decode_meta_graph((FIXTURES / "graphs" / "gru.meta").read_bytes()))
    offers = [each.name for each in found.offers]
    assert "state:0" in offers
    assert "outputs:0" in offers
    assert not [name for name in offers if "rnn/while/gru_cell" in name]


def test_what_a_graph_of_many_scores_offers_is_told_in_linear_time() -> None:
    def asked(count: int) -> Callable[[], object]:
        scores = ((f"score_{number}", "Identity", ("x",)) for number in range(count))
        large = GraphDef(graph(("x", "Placeholder", ()), *scores))
        return lambda: needs_of(large)

    assert steps(asked, (200, 400, 800)) < 1.05
