"""Rewriting a checkpoint of an old trainer into the layout of this project's trainer.

Weights, moments and step keep their bytes where they are: a renamed tensor is another key for them. Only the GRU of
TensorFlow 1, whose gates stand in another order, is written anew, and what the old trainers did not keep.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ckpt_tools import transactions
from ckpt_tools.errors import NotFoundError, UnsupportedError, UsageError
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import build_graph
from ckpt_tools.fs import local
from ckpt_tools.lineages.base import UNKNOWN_STEP, float32
from ckpt_tools.lineages.comirec import trainer
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.models import required_variables
from ckpt_tools.lineages.names import BEST_METRIC, CONFIG, LEARNING_RATE, METRIC, SAVE_COUNTER, STEP
from ckpt_tools.readers import Bundle
from ckpt_tools.runs.experiments import resolve
from ckpt_tools.runs.ledger import ChangeEntry, RewriteEntry, backup_path
from ckpt_tools.runs.opening import open_identified
from ckpt_tools.transactions import Plan, Value

REASON = "migrate"
# What is shown of a best metric for which there is only the place, with the value that such variables start from.
NEVER_SET = "never set"


@dataclass(frozen=True)
class Migration:
    """What a migration does: canonical names by the stored ones they came from, and the stored names left out.

    ``called`` gives those left out whose names say nothing, such as ``optimizer/_trainable_variables/1``, the names
    that say what they are.
    """

    path: str
    plan: Plan
    lineage: ComiRecLineage
    mapped: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...]
    called: dict[str, str] = field(default_factory=dict)

    @property
    def knows_its_best(self) -> bool:
        """Whether the migrated checkpoint has a best metric, rather than the place for one."""
        return self.lineage.best_metric.status == "present"

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.plan.prefix,
            "lineage": self.lineage.to_json(),
            "mapped": [{"name": name, "from": list(keys)} for name, keys in self.mapped.items()],
            "dropped": list(self.dropped),
            "called": self.called,
            BEST_METRIC: self.lineage.best_metric.value if self.knows_its_best else None,
            "plan": self.plan.to_json(),
        }


@dataclass(frozen=True)
class Finished:
    """A migration that an earlier run had committed and this one has brought to its end, as the ledger tells it."""

    prefix: str
    evidence: Mapping[str, Any]

    @property
    def mapped(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(keys) for name, keys in self.evidence.get("mapped", {}).items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "lineage": {"id": self.evidence.get("from")},
            "mapped": [{"name": name, "from": list(keys)} for name, keys in self.mapped.items()],
            "dropped": list(self.evidence.get("dropped", ())),
            "plan": None,
        }


def plan_migration(path: str) -> Migration:
    """Plan the migration of an experiment's best checkpoint, or of the checkpoint at a path. Writes nothing.

    Raises:
        UnsupportedError: the producer is not known, or the checkpoint is one of this trainer's already.
        NotFoundError: a variable that the trainer needs is not in the checkpoint.
        and what `open_checkpoint` and `Checkpoint.read` raise.
    """
    with open_identified(path, ComiRecLineage) as (checkpoint, lineage):
        prefix = checkpoint.prefix
        if not isinstance(checkpoint, Bundle):
            raise UnsupportedError(
                "only tensor bundles can be migrated", path=prefix, hint=f"ckpt inspect {shlex.quote(prefix)}"
            )
        if lineage.id == trainer.ID:
            raise UnsupportedError(
                "is in the trainer's layout already", path=prefix, hint=f"ckpt resume-check {shlex.quote(prefix)}"
            )
        keep: dict[str, str] = {}
        values: dict[str, Value] = {}
        mapped: dict[str, tuple[str, ...]] = {}
        needed = required_variables(lineage.model_type, lineage.variant, lineage.tensors)
        for name in (*needed, BEST_METRIC, SAVE_COUNTER):
            source = lineage.tensors.get(name)
            if source is None:
                if name in (STEP, BEST_METRIC, SAVE_COUNTER):
                    continue
                raise NotFoundError(
                    "the checkpoint lacks a variable that the trainer needs",
                    path=prefix,
                    key=name,
                    hint=f"ckpt inspect {shlex.quote(prefix)}",
                )
            mapped[name] = source.keys
            if source.convert is None:
                keep[name + trainer.SUFFIX] = source.keys[0]
            else:
                array = lineage.read(checkpoint, name)
                values[name + trainer.SUFFIX] = Value.of("float32", array.shape, array.astype("<f4").tobytes())
        for name, value in _state(lineage, prefix).items():
            key = name + trainer.SUFFIX
            if key not in keep:
                values[key] = value
        paths = {key.removesuffix(trainer.SUFFIX): key for key in sorted((*keep, *values))}
        values[OBJECT_GRAPH_KEY] = Value.of_string(build_graph(paths), "the trainer's object graph")
        used = {key for keys in mapped.values() for key in keys}
        dropped = tuple(key for key in checkpoint.tensors if key not in used)
        plan = transactions.plan_values(
            checkpoint,
            values,
            keep=keep,
            reason=REASON,
            evidence={"from": lineage.id, "to": trainer.ID, "mapped": mapped, "dropped": dropped},
        )
        called = _called(checkpoint, lineage, dropped)
    return Migration(path, plan, lineage, mapped, dropped, called)


def _called(checkpoint: Bundle, lineage: ComiRecLineage, keys: Iterable[str]) -> dict[str, str]:
    """What the tensors with some keys are, where that is known and their keys do not say it."""
    full_names = checkpoint.graph.full_names if checkpoint.graph else {}
    names = {key: lineage.name_of(key) or full_names.get(key) for key in keys}
    return {key: name for key, name in names.items() if name and name != key.removesuffix(trainer.SUFFIX)}


def _state(lineage: ComiRecLineage, prefix: str) -> dict[str, Value]:
    """What the trainer keeps and the old ones did not, as a resume from the old checkpoint would set it."""
    best = lineage.best_metric.value if lineage.best_metric.status == "present" else None
    step = UNKNOWN_STEP if lineage.step is None else lineage.step
    # Whose habits of training the run goes on with: no checkpoint tells them.
    config = {**lineage.hyper, "model_type": lineage.model_type, "variant": lineage.variant, "origin": lineage.id}
    config = {key: value for key, value in config.items() if value is not None and key != "name"}
    rate = lineage.hyper.get("learning_rate")
    if rate is None and LEARNING_RATE not in lineage.tensors:
        raise UsageError(
            "neither the checkpoint nor the experiment's name tells the learning rate",
            path=prefix,
            hint="migrate it in its experiment's folder, best_model/EXPERIMENT",
        )
    metric = {"name": "recall", "top_n": 50, "split": "valid", "digest": None}
    return {
        STEP: _integer(step),
        LEARNING_RATE: _float32(rate or 0.0),
        SAVE_COUNTER: _integer(1),
        BEST_METRIC: _float32(best or 0.0, NEVER_SET if best is None else best),
        "state/step": _integer(step),
        "state/best_step": _integer(step),
        "state/trials": _integer(0),
        "state/stopped": Value.of("bool", (), b"\0", False),
        "state/recall": _float32(math.nan if best is None else best),
        "state/loss_sum": Value.of("float64", (), struct.pack("<d", 0.0), 0.0),
        "state/loss_steps": _integer(0),
        METRIC: _json(metric),
        CONFIG: _json(config),
    }


def _integer(value: int) -> Value:
    return Value.of("int64", (), struct.pack("<q", value), value)


def _float32(value: float, shown: float | str | None = None) -> Value:
    return Value.of("float32", (), struct.pack("<f", float32(value)), value if shown is None else shown)


def _json(document: dict[str, Any]) -> Value:
    text = json.dumps(document, sort_keys=True)
    return Value.of_string(text.encode(), text)


def migrate(path: str, *, output: str | None = None, dry_run: bool = False) -> tuple[Migration | Finished, str | None]:
    """Migrate in place (with a backup), or into a new directory ``output`` as ``ckpt-1``.

    Returns the migration and where it went: the backup's directory, the new prefix, or None for a dry run. A change
    in place that was interrupted is brought to an end first; when it was this migration, nothing is left to do.
    """
    if output is None and not dry_run:
        prefix = resolve(path)
        ended = transactions.recover(prefix)
        if ended and ended.stands and _is_migration(ended.entry, prefix):
            return Finished(prefix, ended.entry.evidence), backup_path(local.directory_of(prefix), ended.entry)
    migration = plan_migration(path)
    if dry_run:
        return migration, None
    if output is None:
        return migration, transactions.apply(migration.plan).backup
    return migration, transactions.apply_to(migration.plan, os.path.join(output, "ckpt-1"))


def _is_migration(entry: ChangeEntry, prefix: str) -> TypeGuard[RewriteEntry]:
    ours = entry.action == REASON
    return ours and isinstance(entry, RewriteEntry) and entry.checkpoint == os.path.basename(prefix)
