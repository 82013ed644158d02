"""Files that are no checkpoint: each is named, with what to pass instead."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import re
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from checkpoints import FIXTURES, build_bundle, pick

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.format.checksum import masked
from ckpt_tools.format.wire import bytes_field, encode_varint
from ckpt_tools.readers import locate, open_checkpoint
from ckpt_tools.readers.content import look_into
from ckpt_tools.readers.signatures import sniff


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


def tarred(name: str = "a") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()


HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 131\n"
STRANGERS = {
    "Git LFS pointer": POINTER,
    "HTML page": b"\n<!DOCTYPE html><html><title>404</title>",
    "gzip archive": gzip.compress(b"x"),
    "tar archive": tarred(),
    "zip archive": zipped("readme"),
    "PyTorch": zipped("archive/data.pkl", "archive/data/0"),
    ".npz": zipped("a.npy", "b.npy"),
    "NumPy array": b"\x93NUMPY\x01\x00",
    "pickle": pickle.dumps({"a": 1}),
    "JSON file": b'{"model_type": "bert"}',
    "TensorFlow Lite": b"\x1c\0\0\0TFL3",
    "Parquet": b"PAR1\x15\x04" + bytes(30) + b"PAR1",
    "ORC file": b"ORC\n\x0b" + bytes(20),
    "Avro": b"Obj\x01\x04\x14avro.codec",
    "GGML": b"tjgg" + bytes(20),
    "TensorRT": b"ftrt" + bytes(20),
    r"of R \(RData\)": b"RDX3\nX\n\0\0\0\x03",
    "PDF": b"%PDF-1.7\n%\xe2\xe3",
    "LZ4": b"\x04\x22\x4d\x18\x64\x40\xa7",
    "Torch 7": b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential",
    "MATLAB": b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n",
    "NeMo": tarred("model_config.yaml"),
    "OpenVINO": b'<?xml version="1.0"?>\n<net name="m" version="11">\n\t<layers>',
    "map of the weights of a PyTorch": b'{"metadata": {}, "weight_map": {"a": "m-00001-of-00002.bin"}}',
    "map of weights in several safetensors": b'{"weight_map": {"a": "m-00001-of-00002.safetensors"}}',
    "description of a Keras model": b'{"class_name": "Sequential", "config": {"layers": []}}',
    "description of a Caffe network": b'name: "VGG"\ninput: "data"\nlayer {\n  name: "a"\n}\n',
    "a Python pickle": pickle.dumps({"w": [1.0, 2.0]}, 0),
    "a text file": b"batch_size: 32\nlearning_rate: 0.001\n",
    "not a TensorFlow checkpoint": b"hello",
}


def test_a_pointer_is_named_wherever_a_checkpoint_should_be(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "model.keras").write_bytes(POINTER)
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (tmp_path / "saved" / name).write_bytes(POINTER)
    for directory in ("alone", "saved"):
        with pytest.raises(NotFoundError, match="Git LFS pointer") as caught:
            open_checkpoint(tmp_path / directory)
        assert "git lfs pull" in (caught.value.hint or "")
    (tmp_path / "folders" / "model.h5").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="no checkpoint in this directory"):
        open_checkpoint(tmp_path / "folders")


@pytest.mark.parametrize("name", ["model.ckpt", "model.h5", "model.keras"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_each_is_named(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(STRANGERS[kind])
    with pytest.raises(NotFoundError, match=kind) as caught:
        open_checkpoint(tmp_path / name)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["Git LFS pointer", "HTML page", "gzip archive"])
def test_under_the_name_of_an_index(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model.index").write_bytes(STRANGERS[kind])
    with pytest.raises(NotFoundError, match=kind):
        open_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.ckpt", "model.h5", "model.keras", "model.index"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000])
def test_a_file_without_content_is_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptError):
        open_checkpoint(tmp_path / name)


def test_a_data_file_alone(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(3, np.float32)})
    data = f"{prefix}.data-00000-of-00001"
    assert locate(data) == prefix
    Path(f"{prefix}.index").unlink()
    with pytest.raises(NotFoundError, match="without its index") as caught:
        open_checkpoint(data)
    assert "m.index" in str(caught.value.hint)


def test_a_pointer_in_the_place_of_the_data(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(300, np.float32)})
    Path(f"{prefix}.data-00000-of-00001").write_bytes(POINTER)
    with open_checkpoint(prefix) as checkpoint:
        finding = next(iter(checkpoint.outline()))
    assert "Git LFS" in finding.message
    assert "git lfs pull" in str(finding.fix)


def test_a_graph_without_values(tmp_path: Path) -> None:
    meta = Path(f"{pick('tf1.15').full_prefix}.meta")
    assert locate(meta) == pick("tf1.15").full_prefix
    (tmp_path / "alone.meta").write_bytes(meta.read_bytes())
    with pytest.raises(NotFoundError, match="graph of TensorFlow"):
        open_checkpoint(tmp_path / "alone.meta")


def test_an_event_file() -> None:
    log = next((FIXTURES / "experiments").glob("*/runs/*/events.out.tfevents.*"))
    with pytest.raises(NotFoundError, match="event file"):
        open_checkpoint(log)


def test_a_saved_model_without_variables(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(NotFoundError, match="without variables"):
        open_checkpoint(tmp_path)


def test_a_directory_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NotFoundError):
        locate(tmp_path)
    (tmp_path / "m.keras").write_bytes(zipped("model.weights.h5"))
    assert locate(tmp_path) == str(tmp_path / "m.keras")
    (tmp_path / "n.keras").write_bytes(zipped("model.weights.h5"))
    with pytest.raises(NotFoundError, match="2 checkpoints"):
        locate(tmp_path)


def test_names_with_signs_of_a_shell(tmp_path: Path) -> None:
    directory = tmp_path / "a[1]*? b\n"
    directory.mkdir()
    prefix = build_bundle(directory / "m[0]", {"v": np.zeros(3, np.float32)})
    assert locate(prefix) == locate(f"{prefix}.index") == locate(directory) == prefix


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    import os

    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(3, np.float32)})
    path = Path(f"{prefix}.data-00000-of-00001")
    path.unlink()
    (os.mkfifo if kind == "fifo" else os.mkdir)(path)
    with open_checkpoint(prefix) as checkpoint:
        if kind == "fifo":
            with pytest.raises(UnsafeError):
                list(checkpoint.verify())
        else:
            assert "data file is missing" in next(iter(checkpoint.verify())).message
    os.mkfifo(tmp_path / "v1")
    with pytest.raises(CkptError):
        open_checkpoint(tmp_path / "v1")


# ------------------------------------------------------------------------------------------ other people's formats


def message(*fields: tuple[int, bytes | int]) -> bytes:
    return b"".join(
        encode_varint(number << 3) + encode_varint(value) if isinstance(value, int) else bytes_field(number, value)
        for number, value in fields
    )


def node(name: str, op: str, *more: tuple[int, bytes]) -> bytes:
    return message((1, name.encode()), (2, op.encode()), *more)


GRAPH = message(
    (1, node("x", "Placeholder")),
    (1, node("dense/kernel", "Const", (5, b"\n\x05value\x12\x02\x42\0" * 9))),
    (4, b"\x08\x16"),
)
META = message((1, message((2, message((1, message((1, b"Add"))))))), (2, GRAPH), (3, b"\n\x0csave/Const:0"))
LENGTH = (8).to_bytes(8, "little")
FLAX = b"\x81\xa6params\x81\xa6kernel\xc7\x19\x01\x93\x92\x02\x02\xa7float32\xc4\x10" + b"\0" * 16
TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
ONNX_NODE = message((1, b"x"), (2, b"y"), (4, b"MatMul"))
PADDLE_BLOCK = message((1, 0), (2, 2**64 - 1), (3, message((1, b"fc_0.w_0"))))
JOBLIB = (
    b"\x80\x04}\x94\x8c\x01a\x94\x8c\x13joblib.numpy_pickle\x94\x8c\x11NumpyArrayWrapper\x94\x93\x94)\x81\x94}\x94"
    b"(\x8c\x05shape\x94K\x05\x85\x94\x8c\x05order\x94\x8c\x01C\x94ub\r\xff\xff\xff" + bytes(40)
)
PADDLE_TENSOR = b"\x08\x05\x10\x04\x10\x03"


def numpy_archive() -> bytes:
    out = io.BytesIO()
    np.savez(out, **{"dense/kernel:0": np.ones((2, 2)), "..\\up": np.ones(2)})
    return out.getvalue()


def torch_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def old_tar() -> bytes:
    """As tar wrote before it had ``ustar`` in its headers."""
    header = bytearray(512)
    header[:9] = b"model.txt"
    header[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"00000000000\0" + b"00000000000\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


NAMED = {
    "a graph of TensorFlow": [GRAPH, META, b'node {\n  name: "x"\n  op: "Placeholder"\n}\n', META[:-9]],
    "the graph of a SavedModel": [message((1, 1), (2, META)), message((1, 1), (2, META))[:-5]],
    "a TensorFlow.js model": [
        b'{"format": "layers-model", "modelTopology": {}, "weightsManifest": []}',
        b'{"modelTopology": {"a": "' + b"x" * 200_000 + b'"}, "weightsManifest": [{"paths": ["a.bin"]}]}',
        b'{"format":"graph-model"}',
    ],
    "a NumPy archive": [numpy_archive()],
    "a zip archive with a checkpoint in it (model/ckpt-1)": [
        zipped("model\\ckpt-1.index"),
        zipped("model/ckpt-1.index", "../x"),
    ],
    "a zip archive without Keras weights": [zipped("../../x"), zipped("/etc/passwd")],
    "a TensorFlow Lite model": [b"\x1c\0\0\0TFL3" + bytes(90)],
    "a PyTorch file": [zipped("archive/data.pkl", "archive/data/0", "archive/version"), TORCH_LEGACY, torch_tar()],
    "a TorchScript module": [zipped("m/data.pkl", "m/code/__torch__.py", "m/constants.pkl")],
    "a file of an Orbax checkpoint": [
        b"\x0c\xdb\x3a\x2a" + bytes(40),
        b'{"tree_metadata": {"a": 1}, "use_zarr3": false}',
    ],
    "an ONNX model": [message((1, 8), (2, b"pytorch"), (7, message((1, ONNX_NODE))), (8, b"\x10\x0d"))],
    "a Core ML model": [message((1, 4), (2, message((1, message((1, b"x"))))), (500, b"\x0a\x04abcd"))],
    "a Caffe model": [
        message((1, b"VGG"), (100, node("conv1", "Convolution", (7, bytes(40)))), (100, node("relu1", "ReLU"))),
        message((1, b"VGG"), (2, message((4, b"conv1"), (5, 4), (6, bytes(40)))), (2, message((4, b"relu1"), (5, 18)))),
    ],
    "a program of PaddlePaddle": [message((1, PADDLE_BLOCK), (4, b"\x08\0"))],
    "a file of weights of PaddlePaddle": [
        bytes(16) + len(PADDLE_TENSOR).to_bytes(4, "little") + PADDLE_TENSOR + bytes(48),
        pickle.dumps({"w": [1.0, 2.0], "StructuredToParameterName@@": {"w": "linear_0.w_0"}}, protocol=2),
    ],
    "a file of weights of MXNet": [b"\x12\x01" + bytes(14) + b"\x02" + bytes(7) + b"\xc9\xfa\x93\xf9" + bytes(60)],
    "a file of weights of Flax": [FLAX],
    "a Python pickle": [pickle.dumps({"a": [1, 2]}, protocol=protocol) for protocol in (2, 3, 4, 5)],
    "a file of joblib": [JOBLIB, zlib.compress(pickle.dumps({"a": list(range(40)), "b": {"c": "d"}}))],
    "a tar archive": [tarred(), old_tar()],
    "a gzip archive": [gzip.compress(b"x" * 50)],
    "a bzip2 archive": [bz2.compress(b"x" * 50), bz2.compress(b"")],
    "an xz archive": [lzma.compress(b"x" * 50)],
    "a GGUF file": [b"GGUF\x03\0\0\0" + bytes(40)],
    "a LightGBM model": [b"tree\nversion=v4\nnum_class=1\n"],
    "an XGBoost model": [
        b'{"learner": {"gradient_booster": {}}, "version": [1, 7, 0]}',
        b"{L" + bytes(7) + b"\x07learner{" + bytes(9),
    ],
    "a MATLAB file": [b"MATLAB 5.0 MAT-file, Platform: PCWIN64" + bytes(100)],
    "an HTML page": [
        b"<!DOCTYPE html><html>",
        b"<HTML>",
        b"\xef\xbb\xbf<!-- a -->\n<html lang=en>",
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC',
    ],
    "the answer of a web store": [
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
        b'{"message": "Not Found"}',
        b'{"error":"Repository not found"}',
    ],
    "a Git LFS pointer": [POINTER],
    "a git-annex pointer": [b"/annex/objects/SHA256E-s12--abc\n"],
    "a TFRecord file": [LENGTH + masked(LENGTH).to_bytes(4, "little") + bytes(12)],
}


@pytest.mark.parametrize("name", ["m.ckpt", "m.h5", "m.pb", "m"])
@pytest.mark.parametrize("kind", NAMED)
def test_each_of_other_libraries_is_named_by_what_it_holds(tmp_path: Path, kind: str, name: str) -> None:
    for content in NAMED[kind]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NotFoundError) as caught:
            open_checkpoint(tmp_path / name)
        assert caught.value.message.startswith(f"this is {kind}")
        assert caught.value.hint
        # Alone in a directory, and where an index should be.
        with pytest.raises(NotFoundError):
            open_checkpoint(tmp_path)
        (tmp_path / "x.index").write_bytes(content)
        with pytest.raises(NotFoundError, match=re.escape(kind)):
            open_checkpoint(tmp_path / "x")
        (tmp_path / "x.index").unlink()


def test_directories_of_other_libraries_are_named(tmp_path: Path) -> None:
    tfjs = NAMED["a TensorFlow.js model"][0]
    directories: dict[str, tuple[str, dict[str, bytes]]] = {
        "orbax": ("an Orbax checkpoint without arrays", {"_CHECKPOINT_METADATA": b"{}", "default/d/x": b"x"}),
        "flax": ("a file of weights of Flax", {"checkpoint": FLAX}),
        "tfjs": ("a TensorFlow.js model", {"model.json": tfjs, "group1-shard1of1.bin": b"\1" * 48}),
        "m.mlpackage": ("a Core ML package", {"Manifest.json": b"{}", "Data/a": b""}),
        "dcp": ("a distributed checkpoint of PyTorch", {".metadata": pickle.dumps(1), "__0_0.distcp": b"x"}),
    }
    for name, (kind, files) in directories.items():
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with pytest.raises(NotFoundError, match=kind) as caught:
            open_checkpoint(tmp_path / name)
        assert caught.value.hint
    with pytest.raises(NotFoundError, match=r"weights of a TensorFlow\.js model"):
        open_checkpoint(tmp_path / "tfjs" / "group1-shard1of1.bin")
    with pytest.raises(NotFoundError, match="Flax"):
        open_checkpoint(tmp_path / "flax" / "checkpoint")


class Bytes:
    def __init__(self, content: bytes, path: str = "x") -> None:
        self.content, self.path, self.size = content, path, len(content)

    def read(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]


def named(content: bytes) -> str | None:
    kind = sniff(Bytes(content))  # type: ignore[arg-type]
    return kind.sentence if kind and not kind.readable else None


BEGINNINGS = [
    *(b"", b"\x80\x02", b"\x80\x04\x95", b"\x1f\x8b", b"\x78\x9c", b"BZh", b"\x08\x01\x12", b"\x08\x08", b"\x0a"),
    *(b"{", b'{"', b"\x81\xa6", bytes(16)),
]


def test_random_bytes_are_named_as_nothing() -> None:
    chance = random.Random(5)
    for _ in range(20_000):
        content = chance.choice(BEGINNINGS) + chance.randbytes(chance.choice([3, 20, 64, 200, 700]))
        if content.strip(b"\0"):
            assert named(content) is None, content


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int32", "int64", "uint8", "bool"])
def test_values_of_tensors_are_named_as_nothing(dtype: str) -> None:
    chance = np.random.default_rng(1)
    for n in range(1_000):
        values = chance.normal(size=64) * 10 ** (n % 5 - 2) if "float" in dtype else chance.integers(-9, 300, 64)
        content = values.astype(dtype).tobytes()
        assert not content.strip(b"\0") or named(content) is None


def test_text_in_the_place_of_data_may_be_a_tensor_of_strings(tmp_path: Path) -> None:
    text = b"one word\nand another one\nand more of them\n"
    for name, kind in {"vocabulary.txt": "text", "m.data-00000-of-00001": None}.items():
        (tmp_path / name).write_bytes(text)
        with look_into(str(tmp_path / name)).file as file:
            assert getattr(sniff(file), "id", None) == kind


def test_weights_of_darknet_are_told_by_their_name_too(tmp_path: Path) -> None:
    content = np.array([0, 2, 0, 32013312, 0], "<i4").tobytes() + bytes(40)
    for name, kind in {"yolov3.weights": "darknet", "m.bin": None}.items():
        (tmp_path / name).write_bytes(content)
        with look_into(str(tmp_path / name)).file as file:
            assert getattr(sniff(file), "id", None) == kind


def test_nothing_of_a_checkpoint_is_named_as_something_else() -> None:
    for path in (FIXTURES / "experiments").rglob("*"):
        if re.search(r"\.(index|data-\d+-of-\d+)$", path.name):
            content = path.read_bytes()
            for size in {len(content), *(len(content) * part // 7 for part in range(1, 7))}:
                assert named(content[:size]) is None
        elif path.name == "checkpoint":
            assert named(path.read_bytes()) == "a 'checkpoint' file, which only names checkpoints"
        elif path.suffix == ".meta":
            assert str(named(path.read_bytes())).startswith("a graph of TensorFlow")


@pytest.mark.parametrize(
    ("content", "ending"), [(b"\x89HDF\r\n\x1a\n" + bytes(90), r"\.h5"), (zipped("model.weights.h5"), r"\.keras")]
)
def test_a_keras_file_under_the_name_of_an_index(tmp_path: Path, content: bytes, ending: str) -> None:
    (tmp_path / "m.index").write_bytes(content)
    with pytest.raises(NotFoundError, match="not an index") as caught:
        open_checkpoint(tmp_path / "m")
    assert re.search(ending, str(caught.value.hint))
