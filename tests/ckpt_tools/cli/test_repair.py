"""``ckpt repair``: what its text says when there is nothing to do, and when there is nothing that could be done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from checkpoints import pick


def test_what_is_whole_and_what_is_hopeless_are_told_apart(tmp_path: Path, ckpt: Callable) -> None:
    experiment = shutil.copytree(pick("tf2.21").path, tmp_path / "experiment")
    whole = ckpt("repair", experiment)
    assert (whole.code, whole.out) == (0, f"✓ {experiment}: nothing to repair\n")
    (data,) = experiment.rglob("*.data-00000-of-00001")
    os.truncate(data, 0)
    hopeless = ckpt("repair", experiment)
    assert hopeless.code == 1
    assert f"✗ {experiment}: nothing that a repair can mend\n" in hopeless.out
    assert "✓" not in hopeless.out
