"""A short run of the fuzzer; ``make fuzz`` is the long one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fuzz_formats import KINDS, SECONDS, case, exercise


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_does_harm(tmp_path: Path, kind: str) -> None:
    for number in range(300):
        start = time.process_time()
        exercise(tmp_path, case(kind, number))
        assert time.process_time() - start < 3 * SECONDS, number


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_its_number(kind: str) -> None:
    assert case(kind, 7) == case(kind, 7)
    assert len({str(case(kind, number)) for number in range(50)}) > 30
