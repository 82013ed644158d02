"""Damage by chance, with its checksums repaired: what is called whole here, TensorFlow restores, bit for bit.

So a file that kills TensorFlow, that it refuses, or that it reads as something else, is never called whole.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_formats import case

from ckpt_tools.errors import CkptError, UnsupportedError
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.readers import open_checkpoint

pytestmark = pytest.mark.tensorflow

READER = Path(__file__).with_name("tensorflow_reader.py")
SECONDS = 600
MEMORY = 16 << 30


def called_whole(prefix: Path) -> dict[str, str] | None:
    """The digests of a checkpoint in which nothing is found, but for types that are not read; else None."""
    try:
        with open_checkpoint(prefix) as checkpoint:
            if any(finding.severity == "damage" for finding in (*checkpoint.outline(), *checkpoint.verify())):
                return None
            digests = {}
            for name, info in checkpoint.tensors.items():
                try:
                    if info.dtype != "variant":  # TensorFlow restores it, and shows nobody what it is
                        digests[name] = checkpoint.digest(name)
                except UnsupportedError:
                    continue
            return digests
    except CkptError:
        return None


@pytest.mark.parametrize("kind", ["bundle", "v1"])
@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_what_is_whole_here_is_whole_for_tensorflow(tmp_path: Path, kind: str, count: int) -> None:
    whole: dict[Path, dict[str, str]] = {}
    for number in range(count):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name, data in case(kind, number).items():
            (directory / name).write_bytes(data)
        digests = called_whole(directory / "m")
        if digests is None:
            shutil.rmtree(directory)
        else:
            whole[directory] = digests
    assert count / 20 < len(whole) < count / 2
    done = subprocess.run(
        [sys.executable, READER, *map(str, whole)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=SECONDS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (directory, digests), answer in zip(whole.items(), answers, strict=False):
        where = f"{kind} {directory.name}"
        assert isinstance(answer, dict), f"{where}: {answer}"
        assert answer.keys() - digests.keys() - {OBJECT_GRAPH_KEY} <= unread(directory, digests), where
        for name, digest in digests.items():
            # Python's reader of version 1 knows no tensors in parts.
            if (kind, name) != ("v1", "n"):
                assert answer.get(name) == digest, f"{where}: {name}"
    assert (done.returncode, len(answers)) == (0, len(whole)), f"TensorFlow died after {len(answers)} of {list(whole)}"


def unread(directory: Path, digests: dict[str, str]) -> set[str]:
    with open_checkpoint(directory / "m") as checkpoint:
        return set(checkpoint.tensors) - set(digests)
