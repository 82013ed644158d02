"""safetensors files beside the library of that name: what it refuses is damage here, and what it reads is whole."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import CkptError
from ckpt_tools.findings import exit_code
from ckpt_tools.format.safetensors import DTYPES
from ckpt_tools.readers import open_checkpoint

safetensors = pytest.importorskip("safetensors")

_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "BOOL": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
_SIZES |= {"U16": 2, "U32": 4, "U64": 8, "F8_E5M2": 1, "F8_E4M3": 1, "C64": 8}


def theirs(path: Path) -> bool:
    """Whether the library opens the file and lists its tensors."""
    try:
        with safetensors.safe_open(str(path), "np") as file:
            file.keys()
    except (safetensors.SafetensorError, OSError, UnicodeError):
        return False
    return True


def ours(path: Path) -> bool:
    """Whether ``ckpt verify`` ends with exit code 0."""
    try:
        return exit_code(verify(str(path)).findings) == 0
    except CkptError:
        return False


def made_up(chance: random.Random) -> tuple[dict[str, Any], int]:
    """A header that is right, and how many bytes of data it has."""
    rows: dict[str, Any] = {}
    at = 0
    for number in range(chance.randrange(4)):
        dtype = chance.choice(list(_SIZES))
        shape = [chance.choice([0, 1, 2, 3, 5]) for _ in range(chance.randrange(4))]
        size = _SIZES[dtype] * int(np.prod(shape, dtype=np.int64))
        rows[f"t{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if chance.random() < 0.3:
        rows["__metadata__"] = {"format": "np"}
    return rows, at


def harmed(chance: random.Random, rows: dict[str, Any], size: int) -> tuple[bytes, int]:
    """One thing of it is changed: a length, a place, a type, the header's own size, or nothing."""
    names = [name for name in rows if name != "__metadata__"]
    harm = chance.choice(["none", "shape", "start", "end", "both", "dtype", "extra", "missing", "data", "text", "cut"])
    row = rows[chance.choice(names)] if names else None
    by = chance.choice([-2, -1, 1, 2, 4, 1 << 40])
    if row is not None and harm == "shape":
        row["shape"] = [length + by for length in row["shape"]] or [2]
    elif row is not None and harm in ("start", "end", "both"):
        start, end = row["data_offsets"]
        row["data_offsets"] = [start + by * (harm != "end"), end + by * (harm != "start")]
    elif row is not None and harm == "dtype":
        row["dtype"] = chance.choice([*DTYPES, "F33", "f32", 3, None])
    elif row is not None and harm == "extra":
        row["more"] = 1
    elif row is not None and harm == "missing":
        del row[chance.choice(list(row))]
    elif harm == "data":
        size = max(0, size + chance.choice([-3, -1, 1, 7]))
    text = json.dumps(rows).encode()
    if harm == "text":
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice([b"", b"}", b'"', b"\xff", b" ", b"0"]) + text[at + 1 :]
    elif harm == "cut":
        text = text[: chance.randrange(len(text) + 1)]
    return len(text).to_bytes(8, "little") + text, size


@pytest.mark.parametrize("cases", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_what_the_library_refuses_is_damage_and_what_it_reads_is_whole(cases: int, tmp_path: Path) -> None:
    chance = random.Random(18)
    path = tmp_path / "m.safetensors"
    verdicts = {True: 0, False: 0}
    for number in range(cases):
        head, size = harmed(chance, *made_up(chance))
        path.write_bytes(head + bytes(size))
        known = theirs(path)
        verdicts[known] += 1
        assert ours(path) == known, (number, head)
    assert min(verdicts.values()) > cases // 5


def test_values_are_those_that_the_library_wrote(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    random_ = np.random.default_rng(1)
    values = {
        name: (random_.normal(size=(3, 4)) * 100).astype(name)
        for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "bool")
    }
    save_file(values, str(tmp_path / "m.safetensors"), metadata={"by": "the library"})
    assert verify(str(tmp_path / "m.safetensors")).whole
    with open_checkpoint(tmp_path / "m.safetensors") as checkpoint:
        assert set(checkpoint.tensors) == set(values)
        for name, value in values.items():
            read = checkpoint.read(name)
            assert (read.dtype.name, read.tobytes()) == (name, value.tobytes())
