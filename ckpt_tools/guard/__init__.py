"""Keeping the best of a trainer that does not: its saves are pinned beside the run before it overwrites them.

    running    the trainer as a child: its output passed through (`pump`), signals forwarded (`signals`)
    second     the second process, which gets a copy of the output and looks at the run's files
    keeper     what that one does: it pins
    metric     which number is the metric, and in which direction
    saves      which checkpoints lie in a run, and whether one is complete
    matching   which save belongs to which evaluation; pure
    adopting   what lay in a run before it was guarded, and what that is worth
    logs       what is new in the logs of a run, events of TensorBoard among them
    restoring  a pin put back into its run
    pins       the directory ``RUN.pins``: how a pin is made, what it says, when one may go

Whatever fails here, the training goes on. Of the two processes each passes the trainer's output on when the other is
killed, so that only the death of both can hurt the trainer, as that of any program that it prints into.
"""

from ckpt_tools.analysis.pinned import is_whole
from ckpt_tools.guard.pins import Pins
from ckpt_tools.guard.report import findings
from ckpt_tools.guard.restoring import Restored, restore
from ckpt_tools.guard.running import Ended, Options, run
from ckpt_tools.guard.status import Status, read_status
from ckpt_tools.runs.pin_places import pins_directory
from ckpt_tools.runs.pins import Pin

__all__ = [
    "Ended",
    "Options",
    "Pin",
    "Pins",
    "Restored",
    "Status",
    "findings",
    "is_whole",
    "pins_directory",
    "read_status",
    "restore",
    "run",
]
