"""A checkpoint moved to another catalogue: items that are numbered anew, have come, or have gone.

The rows of the item table, of its bias and of their moments go where the new numbers of their items are; the rows of
new items are what the trainer starts a new run of that size with, and their moments are zero. Everything else stays
bit-equal. What was measured on the old catalogue (best metric, recall, patience) is left out: it says nothing about the
new one.
"""

from __future__ import annotations

import csv
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CorruptError, MismatchError, UnsupportedError
from ckpt_tools.fs import paths
from ckpt_tools.lineages.base import read_step
from ckpt_tools.lineages.comirec import trainer
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.models import ITEM_BIAS, ITEM_EMBEDDING
from ckpt_tools.lineages.names import BEST_METRIC, CONFIG, METRIC, moment_name
from ckpt_tools.operations.weight_files import bundle_target, make_bundle, plan_bundle
from ckpt_tools.readers import Bundle
from ckpt_tools.runs.opening import open_identified
from ckpt_tools.transactions import Plan, Value

if TYPE_CHECKING:
    import numpy as np

REASON = "grow"
MAX_MAP_BYTES = 1 << 31
MAX_ITEMS = 1 << 31
# The limit of the uniform numbers that the Keras port starts its tables with; the original goes by Glorot's rule.
_KERAS_LIMIT = 0.05
# The trainer's, where the checkpoint of another one tells none (`trainer.config.default_config`).
_DEFAULT_SEED = 19
_STATE = "state/"


@dataclass(frozen=True)
class MovedRows:
    """What became of the rows of items: ``kept`` have moved, ``added`` are new, ``gone`` have no item any more, and
    ``nameless`` are rows of the old table that the old map does not name."""

    kept: int
    added: int
    gone: int
    nameless: int


@dataclass(frozen=True)
class Grown:
    """The answer of ``ckpt grow``: stored keys that were ``moved`` row by row, ``kept`` as they are, or ``dropped``."""

    prefix: str
    output: str
    items_before: int
    items_after: int
    rows: MovedRows
    moved: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    plan: Plan
    written: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "output": self.output,
            "item_count": {"before": self.items_before, "after": self.items_after},
            "rows": vars(self.rows),
            "moved": list(self.moved),
            "kept": list(self.kept),
            "dropped": list(self.dropped),
            "written": self.written,
            "plan": self.plan.to_json(),
        }


def read_item_map(path: str) -> dict[str, int]:
    """The ids of items by their names, as ``trainer prepare`` writes them: lines ``name,id``, ids from 1.

    Raises NotFoundError, CorruptError (with the line) for what is no such line, or for a name or an id that comes
    twice.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    text = paths.read_file(path, limit=MAX_MAP_BYTES).decode("utf-8", "surrogateescape")
    try:
        for number, row in enumerate(csv.reader(text.split("\n")), start=1):
            if not row:
                continue
            if len(row) != 2 or not row[1].isascii() or not row[1].isdigit() or not 0 < int(row[1][:12]) < MAX_ITEMS:
                raise CorruptError(f"line {number} is not of the form name,id with an id from 1 on", path=path)
            item = int(row[1])
            if row[0] in found or item in seen:
                raise CorruptError(f"line {number}: its name or its id came before", path=path)
            found[row[0]] = item
            seen.add(item)
    except csv.Error as error:
        raise CorruptError(f"not a list of names and ids: {error}", path=path) from error
    if not found:
        raise CorruptError("holds no items", path=path)
    return found


def grow(path: str, old_map: str, new_map: str, out: str, *, dry_run: bool = False) -> Grown:
    """Write a checkpoint for another catalogue to ``out``, a new prefix or a directory for one.

    ``old_map`` and ``new_map`` are files as `read_item_map` takes them. Row 0, the padding, stays.

    Raises:
        UnsupportedError: not a tensor bundle of a known ComiRec trainer, or one of a SavedModel.
        MismatchError: the old map has ids that the table has no rows for, or no item is in both maps.
        UsageError: there is such a checkpoint already.
        and what `open_checkpoint`, reading and `ckpt_tools.transactions.apply` raise.
    """
    old, new = read_item_map(old_map), read_item_map(new_map)
    with open_identified(path, ComiRecLineage) as (checkpoint, lineage):
        prefix = checkpoint.prefix
        if not isinstance(checkpoint, Bundle) or checkpoint.format == "saved-model":
            raise UnsupportedError("only tensor bundles can be moved to another catalogue", path=prefix)
        before = lineage.item_count
        if max(old.values()) >= before:
            message = f"has the id {max(old.values())}, and the item table of the checkpoint only {before} rows"
            raise MismatchError(message, path=old_map)
        sources, targets = _moves(old, new)
        if not sources:
            raise MismatchError("has no item of the old map: nothing would stay", path=new_map)
        after = max(new.values()) + 1
        tables = _tables(lineage)
        values = {
            key: _moved(checkpoint.read(key), _start(lineage, name, after), after, sources, targets)
            for key, name in tables.items()
        }
        dropped = {key for key in checkpoint.tensors if _is_measured(lineage, key)}
        if lineage.id == trainer.ID:
            state = _state(checkpoint, lineage, after)
            values |= state
            dropped -= state.keys()
        kept = [key for key in checkpoint.tensors if key not in dropped and key not in values]
        rows = MovedRows(len(sources), len(new) - len(sources), len(old) - len(sources), before - 1 - len(old))
        target = bundle_target(out, prefix, dry_run=dry_run)
        evidence = {"items": [before, after], "rows": vars(rows), "maps": [old_map, new_map]}
        plan = plan_bundle(checkpoint, kept, values, sorted(dropped), reason=REASON, evidence=evidence, target=target)
        done = Grown(
            prefix, target, before, after, rows, tuple(sorted(tables)), tuple(kept), tuple(sorted(dropped)), plan
        )
    if not dry_run:
        make_bundle(plan)
    return replace(done, written=not dry_run)


def _moves(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The old and the new rows of the items that are in both."""
    both = [name for name in old if name in new]
    return [old[name] for name in both], [new[name] for name in both]


def _tables(lineage: ComiRecLineage) -> dict[str, str]:
    """The stored keys of what has a row for each item, with their canonical names."""
    slots = [moment_name(slot, name) for slot in "mv" for name in (ITEM_EMBEDDING, ITEM_BIAS)]
    names = [name for name in (ITEM_EMBEDDING, ITEM_BIAS, *slots) if name in lineage.tensors]
    return {lineage.tensors[name].keys[0]: name for name in names}


def _start(lineage: ComiRecLineage, name: str, items: int) -> np.ndarray | None:
    """What a new run of so many items starts the table with; None for zeros.

    Source: `trainer.models.recommenders`, whose numbers these are: a function of the name and the run's seed.
    """
    import numpy as np

    if name != ITEM_EMBEDDING:
        return None
    dim = int(lineage.hyper["embedding_dim"])
    limit = math.sqrt(6 / (items + dim)) if lineage.variant == "paper" else _KERAS_LIMIT
    told = lineage.hyper.get("seed")
    seed = _DEFAULT_SEED if told is None else int(told)
    key = np.array([seed, zlib.crc32(name.encode())], dtype=np.uint64)
    random = np.random.Generator(np.random.Philox(counter=[0, 0, 0, 0], key=key))
    return random.uniform(-limit, limit, (items, dim)).astype(np.float32)


def _moved(value: np.ndarray, start: np.ndarray | None, items: int, sources: list[int], targets: list[int]) -> Value:
    import numpy as np

    table = np.zeros((items, *value.shape[1:]), value.dtype) if start is None else start.astype(value.dtype)
    table[[0, *targets]] = value[[0, *sources]]
    return Value.of(value.dtype.name, table.shape, table.tobytes())


def _is_measured(lineage: ComiRecLineage, key: str) -> bool:
    """Whether a tensor tells what was measured on the old catalogue, or is of the old data."""
    name = lineage.name_of(key) or ""
    idle_or_data = name.startswith((f"{_STATE}idle/", f"{_STATE}data"))
    return key == lineage.best_metric.key or name == BEST_METRIC or idle_or_data


def _step(bundle: Bundle, lineage: ComiRecLineage) -> bytes:
    """The stored step as an int64. Raises CorruptError for what is none."""
    key = lineage.tensors[f"{_STATE}step"].keys[0]
    step = read_step(bundle, key)
    if step is None or step not in range(-(1 << 63), 1 << 63):
        raise CorruptError("is no number of steps", path=bundle.prefix, key=key)
    return struct.pack("<q", step)


def _state(bundle: Bundle, lineage: ComiRecLineage, items: int) -> dict[str, Value]:
    """What the trainer keeps beside the variables, as of weights that nobody has measured yet."""
    config = lineage.document(bundle, f"{_STATE}config")
    metric = lineage.document(bundle, f"{_STATE}metric")
    step = _step(bundle, lineage)
    values = {
        BEST_METRIC: Value.of("float32", (), struct.pack("<f", 0.0), "never set"),
        "state/best_step": Value.of("int64", (), step),
        "state/trials": Value.of("int64", (), struct.pack("<q", 0), 0),
        "state/stopped": Value.of("bool", (), b"\0", False),
        "state/recall": Value.of("float32", (), struct.pack("<f", math.nan)),
        CONFIG: _json({**config, "item_count": items}),
        METRIC: _json({**metric, "digest": None}),
    }
    return {lineage.tensors[name].keys[0]: value for name, value in values.items() if name in lineage.tensors}


def _json(document: Mapping[str, Any]) -> Value:
    text = json.dumps(document, sort_keys=True)
    return Value.of_string(text.encode(), text)
