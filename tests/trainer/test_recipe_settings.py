"""Which settings of a recipe go together; pure, without data."""

from __future__ import annotations

from typing import Any

import pytest
from toys import small_config

from ckpt_tools.errors import UsageError
from trainer.config import validate


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"negatives": "popular"}, "--negatives popular is not known"),
        ({"schedule": "step"}, "--schedule step is not known"),
        ({"hard_negatives": -1.0}, "--hard-negatives has to be between 0 and 10000000, not -1"),
        ({"clip_norm": float("nan")}, "--clip-norm has to be between 0 and 10000000, not nan"),
        ({"weight_decay": 10.0}, "takes 10% of a weight away in a step of rate 0.01"),
        ({"schedule": "cosine"}, "--schedule cosine with --decay-steps 0"),
        ({"decay_steps": 100}, "--schedule constant with --decay-steps 100"),
        ({"schedule": "linear", "decay_steps": 100, "warmup_steps": 200}, "--warmup-steps 200"),
        ({"decay_steps": 10**9, "schedule": "linear"}, "--decay-steps has to be between 0 and 10000000"),
        ({"model_type": "DNN", "routing_regularization": 1.0}, "DNN has one"),
        ({"neg_num": 20}, "20 negatives for each of 16 users are 320 different ids"),
        ({"neg_num": 20, "negatives": "mixed"}, "320 different ids"),
    ],
    ids=str,
)
def test_what_no_run_could_use_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        validate(small_config(changes.pop("model_type", "ComiRec-DR"), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup_steps": 100},
        {"schedule": "cosine", "decay_steps": 100, "warmup_steps": 100},
        {"neg_num": 20, "negatives": "in-batch"},  # draws none
        {"weight_decay": 0.05, "clip_norm": 5.0, "hard_negatives": 1.0, "routing_regularization": 10.0},
    ],
    ids=str,
)
def test_what_goes_together(changes: dict[str, Any]) -> None:
    validate(small_config(**changes))
