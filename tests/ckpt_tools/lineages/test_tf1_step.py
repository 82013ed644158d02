"""The number of updates from TensorFlow 1's beta2_power, which was multiplied up in float32."""

from __future__ import annotations

import numpy as np
import pytest

from ckpt_tools.lineages.comirec.tf1 import step_from_power


def powers(beta: float) -> list[float]:
    """The power after each update, as TensorFlow 1 computes it, down to where float32 loses digits."""
    factor = current = np.float32(beta)
    found = []
    while current >= np.finfo(np.float32).tiny:
        found.append(float(current))
        current = np.float32(current * factor)
    return found


@pytest.mark.parametrize("beta", [0.999, 0.9])
def test_every_number_of_updates_until_underflow(beta: float) -> None:
    expected = powers(beta)
    steps = {*range(200), *range(200, len(expected), 997), *range(len(expected) - 3, len(expected) - 1)}
    for step in sorted(step for step in steps if 0 <= step < len(expected)):
        assert step_from_power(expected[step], beta) == step


def test_the_logarithm_would_be_wrong() -> None:
    expected = powers(0.999)
    rounded = [round(np.log(power) / np.log(0.999)) - 1 for power in expected]
    assert rounded != list(range(len(expected)))


@pytest.mark.parametrize("power", [0.0, 1e-40, 1.0, 1.5, -0.5, float("nan"), float("inf")])
def test_a_power_that_no_longer_tells(power: float) -> None:
    assert step_from_power(power, 0.999) is None
