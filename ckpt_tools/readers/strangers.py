"""Files that are no checkpoint of TensorFlow or Keras, by what they hold: names lie.

Most "damaged" checkpoints are one of these. A test has to be tight: raw values, which is what the data of a
checkpoint is, must never look like one by chance. Each therefore asks for 32 bits and more, or for a structure.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Collection
from dataclasses import replace
from pickletools import dis, genops

from ckpt_tools.format import checksum
from ckpt_tools.fs.paths import File
from ckpt_tools.readers.kinds import AS_SAFETENSORS, EXPORTED, PASS_OTHER, PASS_PREFIX, UNPACK, Kind
from ckpt_tools.readers.protobufs import protobuf

_TEXT_BYTES = 1 << 16
_HEAD_BYTES = 4096
# Random bytes seldom hold so many instructions of a pickle in a row.
_INSTRUCTIONS = 12

LFS = Kind(
    "git-lfs",
    "a Git LFS pointer, which only names the file that belongs here",
    "fetch the file itself: git lfs install && git lfs pull",
)
_ANNEX = Kind(
    "git-annex",
    "a git-annex pointer, which only names the file that belongs here",
    "fetch the file itself: git annex get",
)
_HTML = Kind("html", "an HTML page", "the download saved a web page: download the file itself again (its raw link)")
_WEB_ERROR = Kind("web-error", "the answer of a web store to a failed request", "download the file itself again")
_PICKLE = Kind(
    "pickle",
    "a Python pickle (PyTorch writes these), which is never opened because it can run code",
    AS_SAFETENSORS,
)
_TORCH = Kind("pytorch", "a PyTorch file, which is never opened because it can run code", AS_SAFETENSORS)
_JOBLIB = Kind("joblib", "a file of joblib, which is never opened because it can run code", AS_SAFETENSORS)
_PADDLE = Kind(
    "paddle",
    "a file of weights of PaddlePaddle, a pickle, which is never opened because it can run code",
    AS_SAFETENSORS,
)
_SAFETENSORS = Kind("safetensors")
_STATE = Kind("state", "a 'checkpoint' file, which only names checkpoints", "pass its directory")
TFJS = Kind(
    "tensorflow-js",
    "a TensorFlow.js model (layers)",
    "convert it with tensorflowjs_converter --input_format tfjs_layers_model --output_format keras, then pass what "
    "it wrote",
)
_TFJS_GRAPH = Kind("tensorflow-js", "a TensorFlow.js model (graph)", EXPORTED)
ORBAX = Kind("orbax", "a file of an Orbax checkpoint (Keras 3, JAX)", "pass its directory, or that of its step")
_UNFINISHED_ORBAX = Kind(
    "orbax", "an Orbax checkpoint without arrays: its save was not finished", "pass the directory of another step"
)
_FLAX = Kind("flax", "a file of weights of Flax (msgpack)", "load it with Flax, and save the weights as safetensors")
_KERAS_JSON = Kind(
    "keras-json",
    "the description of a Keras model (JSON), without its weights",
    "pass the file of the weights, which was saved beside it (.h5)",
)
_TORCH_MAP = Kind(
    "pytorch-map",
    "a map of the weights of a PyTorch model, which lie in the .bin files that it names",
    AS_SAFETENSORS,
)
_SAFETENSORS_MAP = Kind(
    "safetensors-map",
    "a map of weights in several safetensors files",
    "pass the .safetensors files that it names, one by one",
)
_TEXT = Kind("text", "a text file", PASS_PREFIX)
_CAFFE_TEXT = Kind("caffe-text", "the description of a Caffe network, without its weights", PASS_OTHER)
_JSON = Kind("json-text", "a JSON file that names no weights", "pass the file of the weights that lies beside it")
_XGBOOST = Kind("xgboost", "an XGBoost model", PASS_OTHER)

# Where the bytes are, the bytes, what they mean.
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", LFS),
    (0, b"version https://hawser.github.com/spec/", LFS),
    (0, b"/annex/objects/", _ANNEX),
    (0, b"\x93NUMPY", Kind("npy", "a NumPy array", PASS_OTHER)),
    (0, b"\xfd7zXZ\0", Kind("xz", "an xz archive", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("zstd", "a zstd archive", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7-Zip archive", UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("rar", "a RAR archive", UNPACK)),
    (0, b"GGUF", Kind("gguf", "a GGUF file (llama.cpp)", PASS_OTHER)),
    # A number of four letters, from before GGUF, as a little-endian machine writes it: ggml, ggmf, ggjt.
    *(
        (0, magic, Kind("ggml", "a GGML file (llama.cpp)", PASS_OTHER))
        for magic in (b"lmgg", b"fmgg", b"tjgg", b"ggjt")
    ),
    *((0, magic, Kind("tensorrt", "an engine of TensorRT", EXPORTED)) for magic in (b"ftrt", b"ptrt")),
    (0, b"PAR1", Kind("parquet", "a Parquet file", PASS_OTHER)),
    (0, b"ORC\x0a", Kind("orc", "an ORC file", PASS_OTHER)),
    (0, b"Obj\x01", Kind("avro", "an Avro file", PASS_OTHER)),
    (0, b"RDX2\n", Kind("r-data", "a file of R (RData)", PASS_OTHER)),
    (0, b"RDX3\n", Kind("r-data", "a file of R (RData)", PASS_OTHER)),
    (0, b"%PDF-", Kind("pdf", "a PDF document", PASS_OTHER)),
    (0, b"\x89PNG\r\n\x1a\n", Kind("image", "an image (PNG)", PASS_OTHER)),
    (0, b"\x04\x22\x4d\x18", Kind("lz4", "an LZ4 archive", UNPACK)),
    # An object of Torch, the first, in version 1 of the format.
    (0, b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1", Kind("torch7", "a file of Torch 7 (Lua)", PASS_OTHER)),
    (4, b"TFL3", Kind("tflite", "a TensorFlow Lite model", EXPORTED)),
    (0, b"\x0c\xdb\x3a\x2a", ORBAX),  # the manifest of an OCDBT store, big-endian 0x0cdb3a2a
    (0, b"CBM1", Kind("catboost", "a CatBoost model", PASS_OTHER)),
    (0, b"tree\nversion=", Kind("lightgbm", "a LightGBM model", PASS_OTHER)),
    (0, b"{L\0\0\0\0\0\0\0\x07learner{", _XGBOOST),
    (0, b"MATLAB 5.0 MAT-file", Kind("matlab", "a MATLAB file", PASS_OTHER)),
    (0, b"ARROW1\0\0", Kind("arrow", "an Arrow (Feather) file", PASS_OTHER)),
    (0, b"SQLite format 3\0", Kind("sqlite", "an SQLite database", PASS_OTHER)),
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", _TORCH),  # the magic number of torch.save before 1.6
)
_GZIP = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)", re.DOTALL)
_HTML_START = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.{0,2000}?-->\s*)*(<!doctype\s+html|<html|<\?xml[^>]*>\s*<!doctype\s+html)",
    re.IGNORECASE | re.DOTALL,
)
_XML_ERROR = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<Error>\s*<Code>\w+</Code>")
_OPENVINO = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<net\s[^>]*>\s*<layers")
_STATE_START = re.compile(rb"\s*(all_)?model_checkpoint_paths?\s*:")
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")
# Before version 2 a pickle is text: a dict, a list or a tuple that is kept as number 0, or a class by its name.
_TEXT_PICKLE = re.compile(rb"\((dp|lp|i\w[\w.]*\n\w+\np)\d+\n|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n[p(]|\(F|\}q\0|\]q\0")
_PROTOTXT = re.compile(
    rb"\s*(#[^\n]*\n\s*)*(name\s*:\s*\"[^\"\n]*\"\s*)?((#[^\n]*\n\s*)|(input(_dim|_shape)?\s*[:{][^\n]*\n\s*(dim:[^\n]*\n\s*)*}?\s*)|"
    rb"(force_backward|default_forward_type)\s*:[^\n]*\n\s*)*layers?\s*\{\s*(name|type|bottom|top|include)\b"
)
_EVENT_START = re.compile(rb".{8}.{4}\x09.{8}\x1a.brain\.Event:", re.DOTALL)
# MXNet: a list (0x112, reserved), then the number of arrays, then the first array with a magic number of its own.
_MXNET = re.compile(rb"\x12\x01\0{6}\0{8}.{4}\0{4}[\xc8\xc9\xca]\xfa\x93\xf9", re.DOTALL)
_SAFETENSORS_HEADER = re.compile(
    rb'\s*\{\s*("__metadata__"\s*:\s*\{|"(?:[^"\\]|\\.)*"\s*:\s*\{\s*"(dtype|shape|data_offsets)"\s*:|\}\s*$)'
)
# A map of msgpack whose first key is text, with an array of Flax in it: an extension, type 1, of [shape, dtype, bytes].
_MSGPACK_START = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[ -~]", re.DOTALL)
_FLAX_ARRAY = re.compile(
    rb"(?:\xc7.|\xc8..|\xc9....)\x01\x93[\x90-\x9f].{0,64}?[\xa4-\xa9](b?float|u?int|complex|bool)", re.DOTALL
)
_PADDLE_TENSOR = re.compile(
    rb"\x08[\x00-\x1f](?:(?:\x10[\x80-\xff]{0,9}[\x00-\x7f])+|\x12[\x01-\x7f](?:[\x80-\xff]{0,9}[\x00-\x7f])+)",
    re.DOTALL,
)
_LINES = re.compile(rb"[A-Za-z]{2}[^\n]*\n")
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffe\uffff]")
_TFJS_FORMAT = re.compile(rb'"format"\s*:\s*"(layers-model|graph-model)"')
_TFJS_SHARD = re.compile(r"group\d+-shard\d+of\d+(\.bin)?")
_KERAS_CONFIG = re.compile(rb'(\xef\xbb\xbf)?\s*\{[^{}]{0,200}"(class_name|module)"\s*:')
_MAP = re.compile(rb'"[^"]+\.(bin|safetensors)"')
_JSON_START = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*("(?:[^"\\]|\\.)*"\s*:|\}\s*$)')
_JSON_ERROR = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"(error|message|detail|errors)"\s*:')


def stranger(file: File, head: bytes) -> Kind | None:
    """What the file is, when it is none that could be a checkpoint; None when that is not known."""
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    for pattern, kind in (
        (_GZIP, Kind("gzip", "a gzip archive", UNPACK)),
        (_BZIP2, Kind("bzip2", "a bzip2 archive", UNPACK)),
        (_HTML_START, _HTML),
        (_XML_ERROR, _WEB_ERROR),
        (_OPENVINO, Kind("openvino", "the description of an OpenVINO model (its values are in the .bin)", EXPORTED)),
        (_PROTOTXT, _CAFFE_TEXT),
        (_STATE_START, _STATE),
        (_EVENT_START, Kind("events", "a TensorBoard event file", "pass the checkpoint of that run")),
        (_MXNET, Kind("mxnet", "a file of weights of MXNet", PASS_OTHER)),
    ):
        if pattern.match(head):
            return kind
    return next(filter(None, (test(file, head) for test in _TESTS)), None)


def _tar(file: File, head: bytes) -> Kind | None:
    """By the checksum of the first header, which old archives without ``ustar`` have too."""
    header = head[:512]
    stored = re.fullmatch(rb" *([0-7]{1,7})[ \0]*", header[148:156])
    if len(header) < 512 or stored is None or not header[0]:
        return None
    total = sum(header[:148]) + 8 * 0x20 + sum(header[156:])
    if int(stored[1], 8) != total:
        return None
    if re.match(rb"(\./)?model_(config\.yaml|weights\.ckpt)\0", header):
        return Kind("nemo", "a NeMo model (a tar archive with the weights of PyTorch in it)", AS_SAFETENSORS)
    if file.size > 512 and header.startswith((b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")):
        return _TORCH
    return Kind("tar", "a tar archive", UNPACK)


def _safetensors(file: File, head: bytes) -> Kind | None:
    size = int.from_bytes(head[:8], "little")
    fits = len(head) > 9 and 2 <= size <= min(file.size - 8, 100_000_000)
    return _SAFETENSORS if fits and _SAFETENSORS_HEADER.match(head[8 : 8 + size]) else None


def _json(file: File, head: bytes) -> Kind | None:
    if not _JSON_START.match(head):
        return None
    text = file.read(0, min(file.size, _TEXT_BYTES))
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)  # a character may be cut off at the end
    except UnicodeDecodeError:
        return None
    if re.search(rb"[\x00-\x08\x0e-\x1f]", text):
        return None
    # The list of weights may lie behind the description of a large model.
    if file.size > _TEXT_BYTES:
        text += file.read(file.size - _TEXT_BYTES, _TEXT_BYTES)
    form = _TFJS_FORMAT.search(text)
    if b'"weightsManifest"' in text or form:
        return _TFJS_GRAPH if form and form[1] == b"graph-model" else TFJS
    if b'"learner"' in text and (b'"gradient_booster"' in text or b'"learner_model_param"' in text):
        return _XGBOOST
    if b'"tree_metadata"' in text or b'"item_handlers"' in text:
        return ORBAX
    if _JSON_ERROR.match(text):
        return _WEB_ERROR
    if b'"weight_map"' in text and (named := _MAP.search(text)):
        return _TORCH_MAP if named[1] == b"bin" else _SAFETENSORS_MAP
    if _KERAS_CONFIG.match(text) and b'"config"' in text and b'"class_name"' in text:
        return _KERAS_JSON
    return _JSON


def _pickle(file: File, head: bytes) -> Kind | None:
    if _TEXT_PICKLE.match(head):
        return _PICKLE if _is_pickle(file.size, head) else None
    if not _PICKLE_START.match(head) or not _is_pickle(file.size, head):
        return None
    if b"joblib.numpy_pickle" in head:
        return _JOBLIB
    if b"StructuredToParameterName@@" in file.read(max(0, file.size - 4096), min(file.size, 4096)) + head:
        return _PADDLE
    return _TORCH if b"ctorch" in head or b"torch._utils" in head else _PICKLE


def _packed_pickle(file: File, head: bytes) -> Kind | None:  # noqa: ARG001
    """joblib packs its pickles with zlib."""
    if head[:1] != b"\x78" or int.from_bytes(head[:2], "big") % 31:
        return None
    try:
        inside = zlib.decompressobj().decompress(head, _HEAD_BYTES)
    except zlib.error:
        return None
    return _JOBLIB if _PICKLE_START.match(inside) and _is_pickle(0, inside) else None


def _is_pickle(size: int, head: bytes) -> bool:
    """Whether instructions of a pickle of this size begin here; they are only listed, never run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in strings that are none
        return _lists_instructions(size, head)


def _lists_instructions(size: int, head: bytes) -> bool:
    count = end = 0
    try:
        for instruction, _, position in genops(head):
            count += 1
            if instruction.name == "STOP":
                end = (position or 0) + 1
                break
    except Exception:  # the end of the head, or an instruction that there is not
        return count >= _INSTRUCTIONS
    if end != size and count < _INSTRUCTIONS:
        return False
    try:
        # This follows what each instruction takes and gives: nothing may be left over at the end.
        dis(head[:end], out=io.StringIO())
    except Exception:
        return False
    return True


def _flax(file: File, head: bytes) -> Kind | None:
    if not _MSGPACK_START.match(head):
        return None
    return _FLAX if _FLAX_ARRAY.search(file.read(0, min(file.size, _TEXT_BYTES))) else None


def _paddle(file: File, head: bytes) -> Kind | None:  # noqa: ARG001 (one signature for all tests)
    """Version 0, no levels, version 0 again, then a description of the tensor: type = 1, dimensions = 2."""
    size = int.from_bytes(head[16:20], "little")
    description = head[20 : 20 + size]
    if any(head[:16]) or not 4 <= size <= 128 or len(description) < size:
        return None
    right = _PADDLE_TENSOR.fullmatch(description)
    return Kind("paddle-weights", "a file of weights of PaddlePaddle", PASS_OTHER) if right else None


def _records(file: File, head: bytes) -> Kind | None:
    """Each record has its length and the checksum of its length in front of it."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 16 or not 0 < length <= file.size - 16:
        return None
    if checksum.masked(head[:8]) != int.from_bytes(head[8:12], "little"):
        return None
    return Kind("records", "a TFRecord file, which holds data", "pass the checkpoint of the model")


def _darknet(file: File, head: bytes) -> Kind | None:
    """Its version (0.1 or 0.2) and how many images it has seen, which values of int32 may look like: its name, too."""
    if not file.path.endswith(".weights") or len(head) < 20 or int.from_bytes(head[:4], "little"):
        return None
    minor, revision = int.from_bytes(head[4:8], "little"), int.from_bytes(head[8:12], "little")
    return (
        Kind("darknet", "a file of weights of Darknet (YOLO)", PASS_OTHER)
        if minor in (1, 2) and revision < 16
        else None
    )


def _text(file: File, head: bytes) -> Kind | None:
    """Long enough, with words and lines, and without anything that is no text: no numbers are, but tensors of strings
    may be, in a file that is called as the data of a checkpoint is."""
    if len(head) < 24 or not _LINES.search(head) or "data-" in os.path.basename(file.path):
        return None
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    # A state file may begin with a comment, or with what is not known: who reads it says what it is.
    return None if _NO_TEXT.search(text) or "model_checkpoint_path" in text else _TEXT


# What tells other kinds of directories: names that are all there, and what is said then.
_DIRECTORIES: tuple[tuple[frozenset[str], Kind], ...] = (
    (frozenset({"_CHECKPOINT_METADATA"}), _UNFINISHED_ORBAX),
    (frozenset({"Manifest.json", "Data"}), Kind("coreml", "a Core ML package", EXPORTED)),
    (frozenset({"data.pkl", "version", "data"}), Kind("pytorch", "an unpacked PyTorch file", AS_SAFETENSORS)),
    (frozenset({".metadata"}), Kind("pytorch-distributed", "a distributed checkpoint of PyTorch", AS_SAFETENSORS)),
)
# Files that alone tell what their directory is, by what they hold.
_TELLING = ("model.json", "checkpoint")


def shard_stranger(name: str, sniffed: Callable[[str], Kind | None]) -> Kind | None:
    """What a file of nothing but values is by the file beside it that describes them."""
    found = sniffed("model.json") if _TFJS_SHARD.fullmatch(name) else None
    return replace(found, sentence=f"a file of weights of {found.sentence}") if found in (TFJS, _TFJS_GRAPH) else None


def directory_stranger(names: Collection[str], sniffed: Callable[[str], Kind | None]) -> Kind | None:
    """What a directory with these names is, when it is none of a checkpoint; ``sniffed`` tells what a file is."""
    for telling, kind in _DIRECTORIES:
        if telling <= set(names) and (kind.id != "pytorch-distributed" or any(n.endswith(".distcp") for n in names)):
            return kind
    for name in _TELLING:
        found = sniffed(name) if name in names else None
        if found in (TFJS, _TFJS_GRAPH, _FLAX):
            return found
    return None


_TESTS: tuple[Callable[[File, bytes], Kind | None], ...] = (
    _tar,
    _safetensors,
    _json,
    _pickle,
    _packed_pickle,
    _flax,
    _paddle,
    _records,
    protobuf,
    _darknet,
    _text,
)
