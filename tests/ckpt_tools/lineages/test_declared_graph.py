"""The ``[graph]`` of a ``ckpt.toml``: what may be said, and what is refused with its line."""

from __future__ import annotations

import pytest

from ckpt_tools.errors import CkptError, UnsafeError, UsageError
from ckpt_tools.lineages.declared.grammar import ArrayFile, GraphRule, parse

WHOLE = """[graph]
scores = "score/Softmax"
targets = "sets/valid.npz:labels"
measure = "recall@20"
batch = 256
[graph.feeds]
input_x = "x.npy"
"keep/prob:0" = 1.0
training = false
item = [1, 2]
"""


def rule(text: str) -> GraphRule | None:
    return parse(text.encode(), "/runs/ckpt.toml").graph


def test_all_that_can_be_said() -> None:
    assert rule(WHOLE) == GraphRule(
        scores="score/Softmax",
        targets=ArrayFile("sets/valid.npz", "labels"),
        measure="recall@20",
        batch=256,
        feeds=(("input_x", ArrayFile("x.npy")), ("keep/prob:0", 1.0), ("training", False), ("item", (1, 2))),
    )
    assert rule('[graph]\nfetch = "accuracy/Mean"') == GraphRule(fetch="accuracy/Mean")
    assert rule('[metric]\nname = "auc"') is None


WRONG = {
    "neither": ('[graph]\nbatch = 2\n', UsageError, "names a fetch, or scores", 1),
    "both": (WHOLE.replace("[graph]", '[graph]\nfetch = "a"'), UsageError, "one of both", 2),
    "scores alone": ('[graph]\nscores = "a"\n', UsageError, "need targets and a measure", 2),
    "a fetch with a measure": ('[graph]\nfetch = "a"\nmeasure = "auc"\n', UsageError, "measure goes with scores", 3),
    "an unknown measure": (WHOLE.replace("recall@20", "recall@0"), UsageError, "measure is one of accuracy", 4),
    "no rows": (WHOLE.replace("256", "0"), UsageError, "batch is a number of rows", 5),
    "true rows": (WHOLE.replace("256", "true"), UsageError, "batch is a number of rows", 5),
    "an archive without a name": (WHOLE.replace(":labels", ""), UsageError, "is no array", 3),
    "an array with a name": (WHOLE.replace('"x.npy"', '"x.npy:x"'), UsageError, "is no array", None),
    "a file of another kind": (WHOLE.replace('"x.npy"', '"x.pkl"'), UsageError, "is no array", None),
    "a path that leads out": (WHOLE.replace('"x.npy"', '"../x.npy"'), UnsafeError, "leaves the directory", None),
    "a path out of the run": (
        WHOLE.replace("sets/", "../") + '[experiment]\nname = "{a}/{b}"\n', UnsafeError, "leaves the directory", 3,
    ),
    "a table": (WHOLE.replace("1.0", "{a = 1}"), UsageError, "what is fed is", None),
    "a text in a list": (WHOLE.replace("[1, 2]", '[1, "a"]'), UsageError, "what is fed is", None),
    "a number of no type": (WHOLE.replace("[1, 2]", "[1, 9223372036854775808]"), UsageError, "64 bits", None),
    "feeds that are none": ('[graph]\nfetch = "a"\nfeeds = 1\n', UsageError, r"write \[graph.feeds\]", 3),
    "an unknown word": (WHOLE.replace("batch", "batches"), UsageError, "did you mean|has no 'batches'", 5),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_of_the_grammar_is_an_error_with_its_line(case: str) -> None:
    text, error, message, line = WRONG[case]
    with pytest.raises(error, match=message) as caught:
        rule(text)
    assert isinstance(caught.value, CkptError)
    assert caught.value.path is not None
    assert line is None or caught.value.path.endswith(f":{line}")
