"""Changing a checkpoint: a plan, one commit point, a backup, and the way back; and the files beside it.

    plan         what shall be changed, and why; pure
    commit       making it so, with one rename as the commit point
    single_file  the same for a Keras file, which is replaced as a whole
    tidying      changing the files beside the bundles
    rollback     the way back of all
    removal      deleting checkpoints, which has no way back
    journal      what is under way, and how a killed change is recovered
    completion   the parts behind the commit point, or instead of it; each can be done again
    workplace    the directory under its lock, with what is kept for it held open

What was changed, and where the originals are, is in the ledger of the directory (`ckpt_tools.runs.ledger`).
"""

from ckpt_tools.transactions.commit import Applied, apply, apply_own, apply_to, is_interrupted
from ckpt_tools.transactions.journal import Ended, pending, recover, sweep
from ckpt_tools.transactions.plan import (
    Change,
    Plan,
    Value,
    plan_index,
    plan_part,
    plan_replacement,
    plan_scalar,
    plan_values,
)
from ckpt_tools.transactions.removal import Removal, announce, interrupted, remove
from ckpt_tools.transactions.rollback import drop_backups, has_backup, undo, written_names
from ckpt_tools.transactions.single_file import FilePlan, patched, plan_copy, replace_file, replace_own
from ckpt_tools.transactions.tidying import Tidying, apply_tidying

__all__ = [
    "Applied",
    "Change",
    "Ended",
    "FilePlan",
    "Plan",
    "Removal",
    "Tidying",
    "Value",
    "announce",
    "apply",
    "apply_own",
    "apply_tidying",
    "apply_to",
    "drop_backups",
    "has_backup",
    "interrupted",
    "is_interrupted",
    "patched",
    "pending",
    "plan_copy",
    "plan_index",
    "plan_part",
    "plan_replacement",
    "plan_scalar",
    "plan_values",
    "recover",
    "remove",
    "replace_file",
    "replace_own",
    "sweep",
    "undo",
    "written_names",
]
