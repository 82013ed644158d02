"""Lists of digests, by which a copy of a checkpoint is compared with its origin.

NAME.json      a digest for each tensor, whatever the format: {"schema_version": 1, "tensors": {NAME: {"dtype":
               "float32", "shape": [3, 4], "sha256": HEX}}}, the digests those of ``ckpt inspect --digest``
any other      a digest for each file of the checkpoint, as ``sha256sum`` writes and checks it:  HEX  NAME
               A backslash in front of a line says that ``\\\\`` and ``\\n`` in its name stand for a backslash and a
               line end.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.format import json_text
from ckpt_tools.format.filenames import KERAS_MAPS, bundle_part, meta_name
from ckpt_tools.fs import paths
from ckpt_tools.readers import Bundle, Checkpoint
from ckpt_tools.readers.v1_names import shard_names
from ckpt_tools.runs.opening import open_meant

SCHEMA_VERSION = 1
MAX_BYTES = 1 << 28

_LINE = re.compile(r"(?P<escaped>\\?)(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>.+)", re.DOTALL)
_UNESCAPED = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}

Row = Mapping[str, Any]


class NoManifestError(CorruptError):
    """A text that is no list of digests."""


@dataclass(frozen=True)
class Comparison:
    """How many tensors or files were compared, and a finding for each that differs, is missing or was not there."""

    compared: int
    findings: tuple[Finding, ...]


def is_of_tensors(name: str) -> bool:
    """Whether a manifest of this name is one of tensors, not of files."""
    return name.endswith(".json")


def read(manifest: str) -> str:
    """The text of a manifest. Raises NotFoundError, StorageError, UnsafeError for what is too large or no file."""
    return paths.read_file(manifest, limit=MAX_BYTES).decode("utf-8", "surrogateescape")


@steady
def make(path: str, *, of_tensors: bool) -> str:
    """The text of a manifest of a checkpoint. Raises what is wrong with a tensor or a file that cannot be read."""
    with open_meant(path) as checkpoint:
        if not of_tensors:
            return "".join(_encode_line(name, digest) for name, digest in sorted(_files(checkpoint).items()))
        rows = {name: _row(checkpoint, name) for name in checkpoint.tensors}
        document = {"schema_version": SCHEMA_VERSION, "format": checkpoint.format, "tensors": rows}
        return json.dumps(document, indent=1) + "\n"


@steady
def compare(path: str, text: str, *, of_tensors: bool, only: Collection[str] | None = None) -> Comparison:
    """A checkpoint beside a manifest. ``only``: the tensors that are compared, all by default.

    Raises NoManifestError when the text is no manifest of it, and what is wrong with a file that cannot be read.
    """
    known = _decode_tensors(text) if of_tensors else _decode_files(text)
    with open_meant(path) as checkpoint:
        if of_tensors:
            names = list(checkpoint.tensors) if only is None else [name for name in checkpoint.tensors if name in only]
            found = {name: _row(checkpoint, name) for name in names}
            known = known if only is None else {name: row for name, row in known.items() if name in only}
        else:
            found = {name: {"sha256": digest} for name, digest in _files(checkpoint).items()}
            known = _of_checkpoint(known, found, os.path.basename(checkpoint.prefix))
            if not known:
                raise NoManifestError(f"names no file of {checkpoint.prefix}")
        findings = list(_differences(checkpoint.prefix, found, known, of_tensors))
        return Comparison(len(found), tuple(findings))


def _differences(
    prefix: str, found: Mapping[str, Row], known: Mapping[str, Row], of_tensors: bool
) -> Iterator[Finding]:
    def finding(name: str, message: str) -> Finding:
        where = prefix if of_tensors else os.path.join(os.path.dirname(prefix), name)
        return Finding("differs-from-manifest", "error", message, where, name if of_tensors else None)

    for name, row in known.items():
        if name not in found:
            yield finding(name, "is in the manifest, and not here")
            continue
        for what in ("dtype", "shape", "sha256"):
            if what in row and row[what] != found[name][what]:
                here, there = (str(each)[:80] for each in (found[name][what], row[what]))
                yield finding(name, f"its {what} is {here}, in the manifest {there}")
                break
    for name in found:
        if name not in known:
            yield finding(name, "is not in the manifest")


def _of_checkpoint(known: Mapping[str, Row], found: Collection[str], stem: str) -> dict[str, Row]:
    """The lines that are about one checkpoint, by the names of its files: a list may be one of a whole tree.

    Files of the same name in several directories are told apart by their directories alone.
    """
    rows: dict[str, Row] = {}
    for path, row in known.items():
        name = os.path.basename(path)
        if name in found or ((part := bundle_part(name)) is not None and part.prefix == stem):
            if rows.setdefault(name, row) != row and path not in found:
                raise NoManifestError(
                    f"names several files {name!r} with different digests", hint="make one beside the files"
                )
            rows[name] = row if path in found else rows[name]
    return rows


def _row(checkpoint: Checkpoint, name: str) -> Row:
    info = checkpoint.tensors[name]
    row: dict[str, Any] = {"dtype": info.dtype, "shape": list(info.shape)}
    try:
        return {**row, "sha256": checkpoint.digest(name)}
    except UnsupportedError:
        return {**row, "sha256": None}  # a variant, say: nothing but its type and shape can be compared


def _files(checkpoint: Checkpoint) -> dict[str, str]:
    """The digest of each file of a checkpoint, by its name beside the checkpoint's own."""
    directory = os.path.dirname(checkpoint.prefix)
    return {paths.relative(path, directory or os.curdir): _digest(path) for path in _paths(checkpoint)}


def _paths(checkpoint: Checkpoint) -> list[str]:
    if isinstance(checkpoint, Bundle):
        graph = meta_name(checkpoint.prefix)  # TensorFlow 1 keeps one beside each checkpoint
        return [checkpoint.path, *checkpoint.shard_paths, *([graph] if paths.exists(graph) else [])]
    if checkpoint.prefix.endswith(KERAS_MAPS):
        from ckpt_tools.readers.keras_h5 import shards_of_map  # HDF5 is loaded only for its files

        return [checkpoint.prefix, *shards_of_map(checkpoint.prefix)]
    return shard_names(checkpoint.prefix)


def _digest(path: str) -> str:
    with paths.open_file(path) as file:
        return paths.sha256_of(file)


# --------------------------------------------------------------------------------------- the two formats


def _encode_line(name: str, digest: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _decode_files(text: str) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise NoManifestError(f"line {number} is not of the form of sha256sum: DIGEST  NAME")
        name = match["name"]
        if match["escaped"]:
            name = re.sub(r"\\[\\nr]", lambda found: _UNESCAPED[found[0]], name)
        name = os.path.normpath(name)
        digest = match["digest"].lower()
        if rows.setdefault(name, {"sha256": digest})["sha256"] != digest:
            raise NoManifestError(f"line {number} names {name!r} a second time, with another digest")
    if not rows:
        raise NoManifestError("names no file")
    return rows


def _decode_tensors(text: str) -> dict[str, Row]:
    try:
        document = json_text.parse(text)
    except ValueError as error:
        raise NoManifestError(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(document, dict) or not isinstance(document.get("tensors"), dict):
        raise NoManifestError('no manifest of tensors: it has no "tensors"')
    if document.get("schema_version") != SCHEMA_VERSION:
        raise NoManifestError(f"a manifest of version {str(document.get('schema_version'))[:20]}, not {SCHEMA_VERSION}")
    rows: dict[str, Row] = document["tensors"]
    for name, row in rows.items():
        if not isinstance(row, dict) or not isinstance(row.get("sha256"), (str, type(None))) or "sha256" not in row:
            raise NoManifestError(f"{name[:80]!r} has no digest")
    return rows
