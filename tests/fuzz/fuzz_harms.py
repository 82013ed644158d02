"""What the long run must notice: cases that do each kind of harm, in a process without the threads of pytest.

python fuzz_harms.py HARM KEEP    runs two cases of it; prints what is reported, keeps them in the directory KEEP
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import fuzz_formats
import fuzz_runner


def dies(_: Path, __: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(_: Path, __: object) -> None:
    while True:
        pass


def takes_memory(_: Path, __: object) -> None:
    bytearray(80 << 20)


def is_slow(_: Path, __: object) -> None:
    start = time.process_time()
    while time.process_time() - start < 0.5:
        pass


def raises(_: Path, __: object) -> None:
    raise KeyError("lost")


def main(harm: str, keep: str) -> None:
    suite = replace(fuzz_formats.SUITE, exercise=globals()[harm], seconds=0.3)
    assert fuzz_runner.hunt(suite, [("any", range(3, 5))], Path(keep), jobs=2) == {"any": 2}


if __name__ == "__main__":
    main(*sys.argv[1:])
