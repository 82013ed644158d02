"""One change of a checkpoint in a process of its own, to be killed: imports no more than it needs.

    python rewrite_worker.py rewrite PREFIX VALUE | migrate PREFIX [OUTPUT] | repair PREFIX | undo PREFIX |
                             undo-beside PREFIX | slim PREFIX | keep PREFIX

Where VALUE is stored already, where there is nothing to undo, where the layout is the trainer's already, and where no
optimizer state is left, it does nothing, as the commands do. ``keep`` keeps the last two of the prefix's directory: it
ends what was interrupted, then deletes what the list says, as a user would who reads and types.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import nullcontext, suppress

from ckpt_tools.errors import CkptError, NotFoundError, UnsupportedError, UsageError
from ckpt_tools.operations.repairing import repair
from ckpt_tools.readers.bundle import Bundle
from ckpt_tools.runs.ledger import history
from ckpt_tools.transactions import apply, pending, plan_scalar, recover, undo

KEY = "best_metric"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def main(command: str, prefix: str, *rest: str) -> int:
    try:
        if command == "undo":
            with suppress(NotFoundError):
                undo(prefix)
            return 0
        if command == "undo-beside":
            while history(prefix, beside=True) or pending(os.path.dirname(prefix)):
                undo(prefix, beside=True)
            return 0
        if command == "repair":
            repair(prefix, now=0.0)
            return 0
        if command == "migrate":
            from ckpt_tools.operations.migration import migrate

            output = rest[0] if rest else None
            with suppress(UnsupportedError) if output is None else nullcontext():
                migrate(prefix, output=output)
            return 0
        if command == "slim":
            from ckpt_tools.operations.slimming import slim

            with suppress(UsageError):
                slim(prefix, None, in_place=True)
            return 0
        if command == "keep":
            from ckpt_tools.analysis.retention import Policies
            from ckpt_tools.operations.keeping import keep

            root, policies = os.path.dirname(prefix), Policies(last=2)
            seen = keep(root, policies)
            left = [found.fix.rpartition(" ")[2] for found in seen.findings if found.id == "deletion-interrupted"]
            for digest in [*left, *([seen.digest] if seen.may_go else [])]:
                keep(root, policies, delete=digest)
            return 0
        value = float(rest[0])
        recover(prefix)
        with Bundle(prefix) as bundle:
            key = KEY + (SUFFIX if bundle.graph else "")
            if key in bundle.tensors and b"".join(bundle.chunks(key)) == struct.pack("<f", value):
                return 0
            plan = plan_scalar(bundle, key=key, name=KEY, value=value, reason="backfill", evidence={})
        apply(plan)
    except CkptError as error:
        print(error, error.hint, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
