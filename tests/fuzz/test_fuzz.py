"""A short run of the fuzzer; ``make fuzz`` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import fuzz_formats
import fuzz_harms
import h5py
import numpy as np
import pytest
from checkpoints import header
from formats_support import table
from fuzz_formats import KINDS, SECONDS, SUITE, case, exercise
from fuzz_runner import trouble

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.bundle import Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.wire import bytes_field
from ckpt_tools.readers import open_checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_does_harm(tmp_path: Path, kind: str) -> None:
    for number in range(300):
        assert trouble(SUITE, tmp_path, case(kind, number)) is None, number


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_its_number(kind: str) -> None:
    assert case(kind, 7) == case(kind, 7)
    assert len({str(case(kind, number)) for number in range(50)}) > 30


def test_an_index_that_claims_very_many_shards(tmp_path: Path) -> None:
    # Found by the fuzzer: the names of all missing files were looked up once for each of them, and later each of them
    # was tried.
    assert trouble(SUITE, tmp_path, case("bundle", 166062)) is None
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


def test_a_damaged_file_does_not_crash_the_program_as_it_ends(tmp_path: Path) -> None:
    # Found by the fuzzer: what HDF5 had opened lived in an error's traceback until after the interpreter was gone.
    (tmp_path / "m.h5").write_bytes(case("h5", 0)["m.h5"])
    ended = subprocess.run([sys.executable, "-m", "ckpt_tools", "verify", tmp_path / "m.h5"], capture_output=True)
    assert ended.returncode == 1, ended.stderr


@pytest.mark.parametrize(
    "number", [30243, 31067, *(pytest.param(number, marks=pytest.mark.slow) for number in (34052, 50005, 52165))]
)
def test_a_heap_of_strings_that_goes_round(tmp_path: Path, number: int) -> None:
    # Found by the fuzzer: HDF5 looks for ever for the end of a heap with an object of no size.
    assert trouble(SUITE, tmp_path, case("h5", number)) is None


def apart(script: str, *arguments: object) -> str:
    """What a script prints: a process of its own may die, and, unlike a fork of this one, has none of its threads."""
    path = os.pathsep.join(str(Path(module).parent) for module in (checkpoints.__file__, fuzz_formats.__file__))
    command = [sys.executable, script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def hunt(kind: str, number: int, directory: Path) -> None:
    apart(fuzz_formats.__file__, "--kinds", kind, "--start", number, "--cases", 1, "--keep", directory / "kept")


def test_a_chunk_too_short_for_its_checksum(tmp_path: Path) -> None:
    # Found by the fuzzer: HDF5 read beyond it, and the process died.
    hunt("h5", 66161, tmp_path)
    with h5py.File(tmp_path / "good.h5", "w") as file:
        for number, options in enumerate(({}, {"compression": "gzip"}, {"shuffle": True, "compression": "lzf"})):
            file.create_dataset(str(number), data=np.arange(999), chunks=(100,), fletcher32=True, **options)
    with open_checkpoint(tmp_path / "good.h5") as checkpoint:
        assert list(checkpoint.verify()) == []
        assert checkpoint.read("1").tolist() == list(range(999))


def test_numbers_of_varying_length_in_a_broken_heap(tmp_path: Path) -> None:
    # Found by the fuzzer: no string, so nobody looked at the heap, and the process died.
    hunt("h5", 145483, tmp_path)


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        ("dies", "died: -11"),
        ("hangs", "died: -27"),
        ("takes_memory", "MiB"),
        ("is_slow", "took 0"),
        ("raises", "KeyError: 'lost'"),
    ],
)
def test_the_limits_of_the_long_run(tmp_path: Path, harm: str, word: str) -> None:
    assert apart(fuzz_harms.__file__, harm, tmp_path / "kept").count(word) == 2
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["found-any-3", "found-any-4"]
