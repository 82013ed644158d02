"""A checkpoint without the state of its optimizer: what a model needs to be used, and not to be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools import transactions
from ckpt_tools.errors import UsageError
from ckpt_tools.fs import local
from ckpt_tools.lineages.tensor_names import Roles, tell_roles
from ckpt_tools.operations.weight_files import (
    bundle_target,
    make_bundle,
    plan_bundle,
    plan_keras,
    require_writable_format,
    write_keras,
)
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.runs.experiments import resolve
from ckpt_tools.transactions import FilePlan, Plan

REASON = "slim"


@dataclass(frozen=True)
class Slimmed:
    """The answer of ``ckpt slim``: the keys that were kept and dropped, their bytes, and what a resume then lacks.

    ``output`` is None in place; ``backup`` is where the originals then are.
    """

    prefix: str
    output: str | None
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    kept_bytes: int
    dropped_bytes: int
    lacks: tuple[str, ...]
    plan: Plan | FilePlan | None = None
    written: bool = False
    backup: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "output": self.output,
            "kept": list(self.kept),
            "dropped": list(self.dropped),
            "bytes": {"kept": self.kept_bytes, "dropped": self.dropped_bytes},
            "lacks": list(self.lacks),
            "written": self.written,
            "backup": self.backup,
            "plan": self.plan.to_json() if self.plan else None,
        }


def slim(path: str, out: str | None, *, in_place: bool = False, dry_run: bool = False) -> Slimmed:
    """Write a checkpoint without optimizer state to ``out``, or in place with a backup.

    Which tensors are the optimizer's, `tensor_names` tells. The others stay bit-equal, in their types; moving averages
    of variables stay too. A data file without optimizer state is linked, else what is kept of it is copied.

    Raises:
        UsageError: neither an output nor in place, nothing to drop, or the output is there already.
        UnsupportedError: a format that is not written.
        and what `open_checkpoint`, `transactions.apply` and `transactions.replace_file` raise.
    """
    if (out is None) != in_place:
        raise UsageError("name a new checkpoint, or add --in-place; not both")
    prefix = resolve(path)
    if in_place and not dry_run:
        transactions.recover(prefix)
    # A Keras file is compared with it before it is replaced.
    source = local.fingerprint(prefix) if local.is_file(prefix, follow=True) else None
    with open_checkpoint(prefix) as checkpoint:
        require_writable_format(checkpoint)
        roles = tell_roles(checkpoint.tensors, checkpoint.graph)
        dropped = tuple(key for key in checkpoint.tensors if roles.roles[key].group == "optimizer")
        kept = tuple(key for key in checkpoint.tensors if roles.roles[key].group != "optimizer")
        if not dropped:
            raise UsageError("holds no optimizer state: there is nothing to leave out", path=checkpoint.prefix)
        if not kept:
            raise UsageError("holds nothing but optimizer state", path=checkpoint.prefix)
        found = Slimmed(
            checkpoint.prefix,
            out,
            kept,
            dropped,
            sum(checkpoint.tensors[key].nbytes for key in kept),
            sum(checkpoint.tensors[key].nbytes for key in dropped),
            tuple(_lacks(roles, dropped)),
        )
        evidence = {"dropped": len(dropped), "bytes": found.dropped_bytes, "lacks": list(found.lacks)}
        if not isinstance(checkpoint, Bundle):
            return _of_keras(checkpoint, found, source, evidence, dry_run=dry_run)
        target = None if out is None else bundle_target(out, prefix, dry_run=dry_run)
        plan = plan_bundle(checkpoint, kept, {}, dropped, reason=REASON, evidence=evidence, target=target)
    backup = None if dry_run else make_bundle(plan)
    return _done(found, plan=plan, output=target, written=not dry_run, backup=backup)


def _of_keras(
    checkpoint: Checkpoint,
    found: Slimmed,
    source: local.Fingerprint | None,
    evidence: Mapping[str, Any],
    *,
    dry_run: bool,
) -> Slimmed:
    if found.output is not None:
        if not dry_run:
            write_keras(checkpoint, found.output, found.kept)
        return _done(found, written=not dry_run)
    assert source is not None
    plan = plan_keras(checkpoint, found.kept, source, reason=REASON, evidence=evidence)
    backup = None if dry_run else transactions.replace_file(plan).backup
    return _done(found, plan=plan, written=not dry_run, backup=backup)


def _done(found: Slimmed, **more: Any) -> Slimmed:
    return Slimmed(**{**vars(found), **more})


def _lacks(roles: Roles, dropped: tuple[str, ...]) -> list[str]:
    """What a run that goes on from the slim checkpoint has to begin anew, in sentences."""
    slots = {roles.roles[key].of for key in dropped} - {None}
    by = f" of {', '.join(roles.optimizers)}" if roles.optimizers else ""
    of = f" of {len(slots)} variables" if slots else ""
    lacks = [f"the optimizer state{by}{of}, {len(dropped)} tensors: a resume begins with new moments"]
    if roles.steps and roles.steps[0] in dropped:
        lacks.append("the number of updates, which the optimizer kept: schedules and bias corrections begin at 0")
    lacks.append("a program that also restores its optimizer finds none here: restore the model alone")
    return lacks
