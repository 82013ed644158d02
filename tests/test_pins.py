"""The files with digests hold the tested versions, all of them, and name no host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HASHED = sorted((ROOT / "requirements").glob("*.txt"))
DIGEST = re.compile(r"    --hash=sha256:[0-9a-f]{64}")


def hashed_pins(path: Path) -> dict[str, list[str]]:
    """The lines below each pin, a pin as constraints.txt writes it: ``name==version ; marker``."""
    pins: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        line = line.removesuffix(" \\")
        if line.startswith(" "):
            pins[list(pins)[-1]].append(line)
        else:
            pins[line] = []
    return pins


def constraints() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def releases(pins: set[str]) -> set[str]:
    return {pin.split(" ;")[0] for pin in pins}


def test_every_tested_version_has_its_digests() -> None:
    assert set(hashed_pins(ROOT / "requirements/all.txt")) == constraints()


@pytest.mark.parametrize("path", HASHED, ids=lambda path: path.stem)
def test_each_file_holds_only_tested_versions_with_digests_and_no_host(path: Path) -> None:
    pins = hashed_pins(path)
    assert releases(set(pins)) <= releases(constraints())
    for pin, digests in pins.items():
        assert digests, pin
        assert all(DIGEST.fullmatch(line) for line in digests), pin
    assert "://" not in path.read_text()


def test_the_plain_install_has_its_build_backend_and_no_tensorflow() -> None:
    names = {pin.split("==")[0] for pin in hashed_pins(ROOT / "requirements/plain.txt")}
    assert {"numpy", "typer", "setuptools"} <= names
    assert "tensorflow" not in names
