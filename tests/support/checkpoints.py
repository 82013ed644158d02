"""The checkpoints that the tests look at: those of the fixtures, and small ones made by hand."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.format.table import write_table
from ckpt_tools.format.wire import bytes_field, varint_field
from ckpt_tools.readers import Bundle
from ckpt_tools.transactions import Applied, apply, plan_scalar

FIXTURES = Path(__file__).parents[2] / "fixtures"
BEST_KEY = "best_metric/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class Sample:
    """One experiment of the fixtures, as the manifest describes it."""

    root: str
    experiment: str
    prefix: str
    model_type: str
    has_best_metric: bool
    best_step: int
    best_recall: float
    evaluations: int

    @property
    def id(self) -> str:
        """A short name that tells it from the others, also in the names of golden files."""
        return f"{self.root}-{self.model_type}{'-with-best' if self.has_best_metric else ''}"

    @property
    def path(self) -> Path:
        return FIXTURES / "experiments" / self.root / "best_model" / self.experiment

    @property
    def full_prefix(self) -> str:
        return str(FIXTURES / "experiments" / self.prefix)

    @property
    def name_based(self) -> bool:
        return self.root == "tf1.15"

    def prefix_in(self, experiment: Path) -> str:
        """The prefix of the checkpoint in a copy of the experiment's folder."""
        return str(experiment / os.path.relpath(self.full_prefix, self.path))


def _samples() -> list[Sample]:
    rows = json.loads((FIXTURES / "experiments" / "manifest.json").read_text())
    return [
        Sample(
            root=row["root"],
            experiment=row["experiment"],
            prefix=row["prefix"],
            model_type=row["model_type"],
            has_best_metric=row["has_best_metric"],
            best_step=row["best"]["step"],
            best_recall=float(row["best"]["recall"]),
            evaluations=len(row["evaluations"]),
        )
        for row in rows
    ]


EXPERIMENTS = _samples()


def pick(root: str, model_type: str = "DNN", *, with_best: bool = False) -> Sample:
    """The experiment of a TensorFlow version and model."""
    (found,) = (s for s in EXPERIMENTS if (s.root, s.model_type, s.has_best_metric) == (root, model_type, with_best))
    return found


# One of each way to keep names and moments; the smallest of them.
OF_EACH_LINEAGE = [pick("tf1.15"), pick("tf2.10"), pick("tf2.15"), pick("tf2.21")]


def header(num_shards: int = 1) -> bytes:
    """The header that TensorFlow writes."""
    return varint_field(1, num_shards) + bytes_field(3, varint_field(1, 1))


def build_bundle(
    prefix: str | Path,
    tensors: Mapping[str, Any],
    *,
    extra: Mapping[bytes, bytes] | None = None,
    change: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Write a bundle of one shard by hand.

    ``tensors`` maps names to a list of bytes (strings) or a numpy array; ``extra`` adds or replaces raw entries of the
    index; ``change`` replaces fields of an `Entry` by name of the tensor, for files that no writer would make.
    """
    data = bytearray()
    table = {HEADER_KEY: header()}
    for name, value in sorted(tensors.items()):
        if isinstance(value, list):
            raw, crc = encode_strings(value)
            dtype, shape = "string", (len(value),)
        else:
            raw, dtype, shape = value.tobytes(), value.dtype.name, value.shape
            crc = checksum.masked(raw)
        fields = {"dtype": BY_NAME[dtype], "shape": shape, "offset": len(data), "size": len(raw), "crc": crc}
        table[name.encode()] = Entry(**{**fields, **(change or {}).get(name, {})}).encode()
        data += raw
    Path(f"{prefix}.index").write_bytes(write_table({**table, **(extra or {})}))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(bytes(data))
    return str(prefix)


def block(content: bytes, kind: int = 0) -> bytes:
    """A block of a table with its type and checksum."""
    return content + bytes([kind]) + struct.pack("<I", checksum.masked(content + bytes([kind])))


def snapshot(directory: str | Path) -> dict[str, tuple[int, int, int, str]]:
    """All files below a directory: inode, size, modification time and digest of each."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            where = os.path.relpath(path, directory)
            found[where] = (status.st_ino, status.st_size, status.st_mtime_ns, digest)
    return found


def contents(directory: str | Path) -> dict[str, str]:
    """All files below a directory with only their digests, for comparisons between directories."""
    return {name: row[3] for name, row in snapshot(directory).items()}


def rewrite(prefix: str, value: float, **evidence: Any) -> Applied:
    """Set ``best_metric`` as a backfill does."""
    with Bundle(prefix) as bundle:
        key = BEST_KEY if bundle.graph else "best_metric"
        made = plan_scalar(bundle, key=key, name="best_metric", value=value, reason="backfill", evidence=evidence)
    return apply(made)


def stored_best(prefix: str) -> float | None:
    """The value of ``best_metric``, None without one; every other byte is verified on the way."""
    with Bundle(prefix) as bundle:
        assert [finding for finding in bundle.verify() if finding.severity != "note"] == []
        keys = [key for key in (BEST_KEY, "best_metric") if key in bundle.tensors]
        return float(bundle.read(keys[0])) if keys else None


def digests(prefix: str) -> dict[str, str]:
    """The digest of every tensor but ``best_metric``."""
    with Bundle(prefix) as bundle:
        return {key: bundle.digest(key) for key in bundle.tensors if key not in (BEST_KEY, "best_metric")}
