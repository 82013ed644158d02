"""Saves in processes that can be killed: TensorFlow is imported once, and each save is made by a fork.

    python save_server.py

Reads lines ``DIRECTORY STEP``; for each it forks, prints the child's process id, and later its exit status. The
child stops itself before it begins, so that a tracer can be attached, and saves when it is continued.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from toys import small_config

from ckpt_tools.errors import CkptError
from trainer.saving import CheckpointLine
from trainer.standing import Standing
from trainer.variables import initial_variables


def variables(step: int) -> dict[str, Any]:
    """All that the trainer keeps of a tiny model; ``step`` tells one save from another."""
    config = small_config("DNN")
    return {
        **initial_variables(config),
        **Standing(step=step, best_metric=step / 16).to_tensors(),
        "state/config": config.to_json(),
        "state/metric": '{"digest": "d", "name": "recall", "split": "valid", "top_n": 10}',
    }


def save(directory: str, step: int) -> int:
    values = variables(step)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        CheckpointLine(directory).save(values)
    except CkptError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def main() -> None:
    for line in sys.stdin:
        directory, step = line.rsplit(maxsplit=1)
        child = os.fork()
        if child == 0:
            os._exit(save(directory, int(step)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
