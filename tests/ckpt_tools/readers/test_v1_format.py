"""Version 1 by hand: what its writer never wrote."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from formats_support import slice_proto, table, table_of_blocks, v1_header, v1_value
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.ordered import encode_slice_key
from ckpt_tools.format.v1 import decode_header, decode_value
from ckpt_tools.format.wire import bytes_field, encode_varint, varint_field
from ckpt_tools.fs import local
from ckpt_tools.readers import open_checkpoint

FLOAT, STRING, WHOLE = 1, 7, slice_proto(None)
KEY = encode_slice_key("v", [(0, -1)])


def floats(*values: float) -> bytes:
    return bytes_field(5, struct.pack(f"<{len(values)}f", *values))


def value(tensor: bytes) -> bytes:
    return v1_value("v", WHOLE, tensor)


def write(path: Path, header: bytes, entries: dict[bytes, bytes]) -> str:
    path.write_bytes(table({b"": header, **entries}))
    return str(path)


def test_numbers_that_are_not_packed() -> None:
    tensor = b"".join(bytes([5 << 3 | 5]) + struct.pack("<f", x) for x in (1.0, -2.0))
    assert decode_value(value(tensor), BY_NAME["float32"], 2).tolist() == [1, -2]
    tensor = varint_field(7, 5) + encode_varint(7 << 3) + encode_varint(0) + varint_field(7, -3)
    assert decode_value(value(tensor), BY_NAME["int32"], 3).tolist() == [5, 0, -3]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_all_varints_at_once(numbers: list[int]) -> None:
    tensor = bytes_field(10, b"".join(map(encode_varint, numbers)))
    assert decode_value(value(tensor), BY_NAME["int64"], len(numbers)).tolist() == numbers


@pytest.mark.parametrize(
    ("dtype", "tensor", "count"),
    [
        ("float32", floats(1.0), 2),
        ("float32", floats(1.0, 2.0), 1),
        ("float32", bytes_field(5, b"\0\0\0"), 1),
        ("float32", floats(), 1 << 60),
        ("int8", bytes_field(7, encode_varint(300)), 1),
        ("uint8", bytes_field(7, encode_varint(-1)), 1),
        ("bool", bytes_field(11, encode_varint(2)), 1),
        ("float16", bytes_field(13, encode_varint(1 << 16)), 1),
        ("int64", bytes_field(10, b"\x80"), 1),
        ("int64", bytes_field(10, b"\xff" * 9 + b"\x02"), 1),
        ("int64", bytes_field(10, b"\x80" * 10 + b"\x01"), 1),
        ("int64", bytes([10 << 3 | 5]) + b"\0" * 4, 1),
        ("string", bytes_field(8, b"x"), 2),
        ("string", b"", 1 << 60),
    ],
)
def test_values_that_do_not_fit(dtype: str, tensor: bytes, count: int) -> None:
    with pytest.raises(CorruptError):
        decode_value(value(tensor), BY_NAME[dtype], count)


@pytest.mark.parametrize(
    "entry",
    [
        value(floats(1)) + b"\x07",
        value(floats(1)) * 2,
        bytes_field(2, bytes_field(1, b"\xff") + bytes_field(2, WHOLE) + bytes_field(3, floats(1))),
        bytes_field(2, bytes_field(2, b"\x07") + bytes_field(3, floats(1))),
    ],
    ids=["behind it", "twice", "its name", "its part"],
)
def test_a_value_beside_what_is_no_message(entry: bytes) -> None:
    """TensorFlow finds no value there, although it could be read."""
    with pytest.raises(CorruptError):
        decode_value(entry, BY_NAME["float32"], 1)


def test_types_that_version_1_has_no_field_for() -> None:
    with pytest.raises(UnsupportedError):
        decode_value(value(b""), BY_NAME["variant"], 0)


def test_files_of_the_future() -> None:
    with pytest.raises(UnsupportedError):
        decode_header(v1_header(min_consumer=2))
    decode_header(v1_header(min_consumer=1))


def test_a_table_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(table({b"a": b"b"}))
    with pytest.raises(CorruptError, match="without the header"):
        open_checkpoint(tmp_path / "t")


@pytest.mark.parametrize(
    ("slices", "entries", "message"),
    [
        ([WHOLE], {}, "not there"),
        ([slice_proto((0, 1))], {encode_slice_key("v", [(0, 1)]): v1_value("v", b"", floats(1))}, "gap or overlap"),
        ([WHOLE, WHOLE], {KEY: value(floats(1, 2))}, "gap or overlap"),
        ([slice_proto((1, 2))], {}, "reaches to 3"),
        ([slice_proto(None, None)], {}, "rank 2"),
        ([WHOLE], {KEY: value(floats(1))}, "holds 1 elements"),
        ([WHOLE], {KEY: b""}, "holds no value"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, slices: list[bytes], entries: dict[bytes, bytes], message: str) -> None:
    path = write(tmp_path / "v1", v1_header(("v", FLOAT, [2], slices)), entries)
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(CorruptError, match=message):
            checkpoint.read("v")
        assert {finding.key for finding in checkpoint.verify()} >= {"v"}


def test_an_entry_that_belongs_to_no_tensor(tmp_path: Path) -> None:
    entries = {KEY: value(floats(1, 2)), KEY.replace(b"v", b"w"): value(floats(3))}
    with open_checkpoint(write(tmp_path / "v1", v1_header(("v", FLOAT, [2], [WHOLE])), entries)) as checkpoint:
        assert ["belongs to no tensor" in finding.message for finding in checkpoint.verify()] == [True]


def test_a_shape_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "v1", v1_header(("v", FLOAT, [1 << 40], [WHOLE])), {KEY: value(floats(1))})
    with open_checkpoint(path) as checkpoint, pytest.raises(CorruptError):
        checkpoint.read("v")


def test_many_strings_in_a_damaged_block_are_listed_without_reading_it_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number:05}" for number in range(1000)]
    header = v1_header(*((name, STRING, [1], [WHOLE]) for name in names), ("z", STRING, [1], [WHOLE]))
    lengths = {**dict.fromkeys(names, 1), "z": 1 << 20}
    entries = {
        encode_slice_key(name, [(0, -1)]): v1_value(name, WHOLE, bytes_field(8, b"x" * length))
        for name, length in lengths.items()
    }
    path = tmp_path / "v1"
    path.write_bytes(table_of_blocks([[(b"", header)], sorted(entries.items())]))
    with open_checkpoint(path) as checkpoint:
        assert {name: info.nbytes for name, info in checkpoint.tensors.items()} == lengths
    raw = bytearray(path.read_bytes())
    raw[-(1 << 19)] ^= 1
    path.write_bytes(raw)
    read = 0

    class Counted(local.RandomAccessFile):
        def read(self, offset: int, size: int) -> bytes:
            nonlocal read
            read += size
            return super().read(offset, size)

    monkeypatch.setattr(local, "RandomAccessFile", Counted)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["z"].nbytes == 0
        assert 0 < read < 4 * len(raw)


def test_missing_shards(tmp_path: Path) -> None:
    for shard, rows in enumerate(((0, 2), (2, 1))):
        key = encode_slice_key("v", [rows])
        part = slice_proto(rows)
        header = v1_header(("v", FLOAT, [3], [part]))
        write(tmp_path / f"m-{shard:05d}-of-00002", header, {key: v1_value("v", part, floats(*range(rows[1])))})
    pattern = str(tmp_path / "m-?????-of-00002")
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.prefix == pattern
        np.testing.assert_array_equal(checkpoint.read("v"), [0, 1, 0])
    (tmp_path / "m-00000-of-00002").unlink()
    with open_checkpoint(pattern) as checkpoint:
        assert {finding.id for finding in checkpoint.verify()} == {"not-found", "corrupt"}
    (tmp_path / "m-00001-of-00002").unlink()
    with pytest.raises(NotFoundError):
        open_checkpoint(pattern)


def test_shards_that_disagree(tmp_path: Path) -> None:
    for shard, shape in enumerate(([3], [4])):
        write(tmp_path / f"m-{shard:05d}-of-00002", v1_header(("v", FLOAT, shape, [])), {})
    with pytest.raises(CorruptError, match="disagree"):
        open_checkpoint(tmp_path / "m")


def test_sets_that_cannot_be(tmp_path: Path) -> None:
    write(tmp_path / "m-00000-of-00000", v1_header(), {})
    with pytest.raises(UnsafeError):
        open_checkpoint(tmp_path / "m-00000-of-00000")


def test_two_sets_of_one_name(tmp_path: Path) -> None:
    for count in (1, 2):
        write(tmp_path / f"m-00000-of-{count:05d}", v1_header(), {})
    with pytest.raises(NotFoundError) as caught:
        open_checkpoint(tmp_path / "m")
    assert "of-00001" in str(caught.value.hint)
    assert "of-00002" in str(caught.value.hint)


@given(st.binary(max_size=60), st.sampled_from(sorted(BY_NAME)), st.integers(0, 5))
def test_any_bytes_end_in_a_value_or_our_error(data: bytes, dtype: str, count: int) -> None:
    for message in (data, value(data)):
        with contextlib.suppress(CkptError):
            assert decode_value(message, BY_NAME[dtype], count).shape == (count,)
