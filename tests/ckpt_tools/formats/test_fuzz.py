"""A short run of the fuzzer; ``make fuzz`` is the long one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from checkpoints import header
from formats_support import table
from fuzz_formats import KINDS, SECONDS, case, exercise

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.bundle import Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.wire import bytes_field


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


def test_an_index_that_claims_very_many_shards(tmp_path: Path) -> None:
    # Found by the fuzzer: the names of all missing files were looked up once for each of them.
    start = time.process_time()
    exercise(tmp_path, case("bundle", 9100))
    entries = {b"": header(100_000), b"v": Entry(BY_NAME["float32"], ()).encode()}
    exercise(tmp_path, {"many.index": table(entries)})
    assert time.process_time() - start < 5 * SECONDS


def test_a_string_that_says_it_is_longer_than_its_file(tmp_path: Path) -> None:
    # Found by the fuzzer: HDF5 took gigabytes of memory for it before it looked.
    start = time.process_time()
    exercise(tmp_path, case("h5", 4819))
    assert time.process_time() - start < SECONDS


def test_an_entry_that_is_there_twice(tmp_path: Path) -> None:
    # Found with TensorFlow as second opinion: it puts the two shapes together, where the last one counted here.
    exercise(tmp_path, case("bundle", 1364))
    once = Entry(BY_NAME["float32"], (3,), size=12).encode()
    for twice in (once + once, bytes_field(2, bytes_field(2, b"\x08\x01\x08\x02"))):
        with pytest.raises(CorruptError):
            Entry.decode(twice)
