"""HDF5 and zip files made to do harm. Each must be refused before a value is read, and touch no other file."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ckpt_tools.errors import CkptError, CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.readers import open_checkpoint


def external_link(file: h5py.File, other: Path) -> None:
    file["layers/v"] = h5py.ExternalLink(str(other), "/v")


def external_group(file: h5py.File, other: Path) -> None:
    file["layers"] = h5py.ExternalLink(str(other), "/")


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("v", (40,), "u1", external=[(str(other), 0, 40)])


def virtual_dataset(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "v", shape=(4,))
    file.create_virtual_dataset("v", layout)


def unlimited_virtual_dataset(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4", maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(str(other), "v", shape=(4,), maxshape=(None,))[
        : h5py.h5s.UNLIMITED
    ]
    file.create_virtual_dataset("v", layout)


def soft_link(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file["v"] = np.zeros(3)
    file["w"] = h5py.SoftLink("/v")


def cycle(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file.create_group("a/b")["self"] = file["/"]


def two_names(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file["b"] = file.create_group("a")


def shape_bomb(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file.create_dataset("v", (10**6, 10**6, 10**6), "f4", chunks=(10, 10, 10))


def contiguous_bomb(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file.create_dataset("v", (1 << 40,), "f4")


def chunk_bomb(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file.create_dataset("v", (10,), "f8", chunks=(1 << 28,), maxshape=(None,))


def gzip_bomb(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file.create_dataset("v", data=np.zeros(50_000_000, np.uint8), compression="gzip", compression_opts=9)


def many_small_bombs(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    for number in range(40):
        file.create_dataset(f"v{number}", data=np.zeros(1_000_000, np.uint8), compression="gzip")


def deep(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    file.create_group("/".join("a" * 100))


def plugin_filter(file: h5py.File, other: Path) -> None:  # noqa: ARG001
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4,))
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, b"v", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), plan)


@pytest.mark.parametrize(
    "make",
    [
        external_link,
        external_group,
        external_storage,
        virtual_dataset,
        unlimited_virtual_dataset,
        soft_link,
        cycle,
        two_names,
        shape_bomb,
        contiguous_bomb,
        chunk_bomb,
        gzip_bomb,
        many_small_bombs,
        deep,
        plugin_filter,
    ],
)
@pytest.mark.parametrize("inside_zip", [False, True])
def test_hdf5(tmp_path: Path, make: Callable[[h5py.File, Path], None], inside_zip: bool) -> None:
    other = tmp_path / "other.bin"
    with h5py.File(other, "w") as file:
        file.create_dataset("v", data=np.arange(4, dtype=np.float32), maxshape=(None,))
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w") as file:
        make(file, other)
    before = other.stat().st_atime_ns
    if inside_zip:
        archive = tmp_path / "hostile.keras"
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(path, "model.weights.h5")
        path = archive
    with pytest.raises(UnsafeError):
        open_checkpoint(path)
    assert other.stat().st_atime_ns == before


def test_pickled_objects_and_references_are_not_decoded(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["v"] = np.zeros(3)
        file.create_dataset("ref", data=np.array([file["v"].ref], dtype=h5py.ref_dtype))
        file.create_dataset("record", data=np.zeros(2, [("a", "i4"), ("b", "f4")]))
    with open_checkpoint(tmp_path / "r.h5") as checkpoint:
        assert {name: info.dtype for name, info in checkpoint.tensors.items()} == {
            "record": "opaque",
            "ref": "opaque",
            "v": "float64",
        }
        with pytest.raises(UnsupportedError):
            checkpoint.read("ref")


@pytest.mark.parametrize("layout", [{}, {"chunks": (2,)}], ids=["contiguous", "chunked"])
@pytest.mark.parametrize("kind", ["numbers", "references", "records"])
def test_what_lies_elsewhere_is_verified_as_it_is_stored(tmp_path: Path, kind: str, layout: dict) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file["target"] = np.zeros(3)
        varying = h5py.vlen_dtype(np.uint8)
        values, dtype = {
            "numbers": ([np.arange(5, dtype=np.uint8)] * 4, varying),
            "references": ([file["target"].ref] * 4, h5py.ref_dtype),
            "records": ([(np.arange(5, dtype=np.uint8),)] * 4, np.dtype([("a", varying)])),
        }[kind]
        dataset = file.create_dataset("v", (4,), dtype, **layout)
        for number, value in enumerate(values):
            dataset[number] = value
        stored = dataset.id.get_storage_size()
        places = [dataset.id.get_offset()]
        if layout:
            places = [dataset.id.get_chunk_info(number).byte_offset for number in range(2)]
    raw = path.read_bytes()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["v"].dtype == "opaque"
        size = stored // len(places)
        assert b"".join(checkpoint.chunks("v")) == b"".join(raw[at : at + size] for at in places)
        assert list(checkpoint.verify()) == []
        digest = checkpoint.digest("v")
    with open_checkpoint(path) as again:
        assert again.digest("v") == digest, "of what is in the file, and not of where it came to lie in memory"


@pytest.mark.parametrize("claimed", [2, 5, 8])
def test_a_string_is_as_long_as_its_heap_has_it(tmp_path: Path, claimed: int) -> None:
    """The library copies what the heap has into room for what the string says."""
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("s", data=[b"abcde", b""], dtype=h5py.string_dtype())
        offset = dataset.id.get_offset()
    raw = bytearray(path.read_bytes())
    assert raw[offset] == 5
    raw[offset] = claimed
    path.write_bytes(raw)
    with open_checkpoint(path) as checkpoint:
        if claimed == 5:
            assert checkpoint.read("s").tolist() == [b"abcde", b""]
        else:
            with pytest.raises(CorruptError, match=f"{claimed} bytes, where its heap has 5"):
                checkpoint.read("s")


# ------------------------------------------------------------------------------------------ archives


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/dense/vars/0"] = np.arange(6, dtype=np.float32)
    return (tmp_path / "w.h5").read_bytes()


def archive(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in members:
            target.writestr(name, data)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_archive(tmp_path: Path, weights: bytes, compression: int) -> None:
    path = archive(tmp_path / "m.keras", [("config.json", b"{}"), ("model.weights.h5", weights)], compression)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "keras-zip"
        assert checkpoint.read("layers/dense/vars/0").tolist() == [0, 1, 2, 3, 4, 5]
        assert list(checkpoint.verify()) == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "c:\\x", "a\\..\\x", "C:x"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_lead_elsewhere(tmp_path: Path, weights: bytes, name: str) -> None:
    with pytest.raises(UnsafeError):
        open_checkpoint(archive(tmp_path / "m.keras", [("model.weights.h5", weights), (name, b"x")]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.keras", "w.h5"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path, weights: bytes) -> None:
    with pytest.raises(UnsafeError, match="two members"):
        open_checkpoint(archive(tmp_path / "m.keras", [("model.weights.h5", weights)] * 2))


def test_a_symbolic_link(tmp_path: Path, weights: bytes) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as target:
        target.writestr("model.weights.h5", weights)
        target.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeError, match="symbolic link"):
        open_checkpoint(tmp_path / "m.keras")


def edited(path: Path, signature: bytes, offset: int, code: str, value: int) -> Path:
    """Change a number in the last header that begins with a signature."""
    data = bytearray(path.read_bytes())
    struct.pack_into(code, data, data.rindex(signature) + offset, value)
    path.write_bytes(bytes(data))
    return path


def test_an_encrypted_member(tmp_path: Path, weights: bytes) -> None:
    path = archive(tmp_path / "m.keras", [("model.weights.h5", weights)])
    with pytest.raises(UnsafeError, match="encrypted"):
        open_checkpoint(edited(path, b"PK\x01\x02", 8, "<H", 1))


def test_another_compression(tmp_path: Path, weights: bytes) -> None:
    with pytest.raises(UnsupportedError):
        open_checkpoint(archive(tmp_path / "m.keras", [("model.weights.h5", weights)], zipfile.ZIP_LZMA))


def test_a_bomb(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", [("model.weights.h5", b"\0" * 100_000_000)], zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeError, match="unpacks from"):
        open_checkpoint(path)


@pytest.mark.parametrize(("offset", "value"), [(24, 1 << 31), (20, 1 << 30), (42, 5), (16, 7)])
def test_lies_in_the_directory(tmp_path: Path, weights: bytes, offset: int, value: int) -> None:
    """The size, the packed size, the place and the checksum of a member, each wrong."""
    path = archive(tmp_path / "m.keras", [("model.weights.h5", weights)])
    edited(path, b"PK\x01\x02", offset, "<I", value)
    try:
        with open_checkpoint(path) as checkpoint:
            assert [finding.id for finding in checkpoint.verify()] == ["corrupt"]
    except CkptError:
        pass


def test_members_that_overlap(tmp_path: Path, weights: bytes) -> None:
    path = archive(tmp_path / "m.keras", [("a", b"x" * 50), ("model.weights.h5", weights)])
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    first = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, struct.unpack_from("<I", data, first + 42)[0])
    path.write_bytes(bytes(data))
    with pytest.raises(CkptError):
        open_checkpoint(path)


def test_a_name_that_differs_in_the_header(tmp_path: Path, weights: bytes) -> None:
    path = archive(tmp_path / "m.keras", [("model.weights.h5", weights)])
    data = bytearray(path.read_bytes())
    data[30] = ord("n")
    path.write_bytes(bytes(data))
    with pytest.raises(CkptError):
        open_checkpoint(path)


def test_bits_of_an_archive(tmp_path: Path, weights: bytes) -> None:
    """Every flipped bit in the weights of an archive is found by its checksum."""
    path = archive(tmp_path / "m.keras", [("model.weights.h5", weights)])
    data = path.read_bytes()
    start = data.index(b"\x89HDF")
    for offset in range(start, start + len(weights), 37):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 16]) + data[offset + 1 :])
        try:
            with open_checkpoint(path) as checkpoint:
                assert [f.id for f in checkpoint.verify()] != []
        except CkptError:
            pass


def test_configurations_are_never_looked_at(tmp_path: Path, weights: bytes) -> None:
    canary = tmp_path / "canary"
    config = {
        "module": "builtins",
        "class_name": "eval",
        "config": {"code": f"open({str(canary)!r}, 'w')", "layers": [{"class_name": "Lambda"}]},
    }
    path = archive(tmp_path / "m.keras", [("config.json", json.dumps(config).encode()), ("model.weights.h5", weights)])
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file.attrs["model_config"] = json.dumps(config)
    for each in (path, tmp_path / "w.h5"):
        with open_checkpoint(each) as checkpoint:
            assert list(checkpoint.verify()) == []
            checkpoint.read("layers/dense/vars/0")
    assert not canary.exists()
