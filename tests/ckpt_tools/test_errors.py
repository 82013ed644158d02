"""The family of errors: stable names and exit codes, and messages that say where."""

from __future__ import annotations

import pytest

from ckpt_tools import errors
from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.findings import Finding, exit_code

FAMILY = {
    "corrupt": 1,
    "mismatch": 1,
    "usage": 2,
    "not-found": 3,
    "unsafe": 4,
    "storage": 5,
    "worker-lost": 5,
    "busy": 6,
    "unsupported": 7,
}


def classes() -> list[type[CkptError]]:
    return [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, CkptError) and found is not CkptError
    ]


def test_names_and_codes_are_a_contract() -> None:
    assert {kind.id: kind.exit_code for kind in classes()} == FAMILY


def test_no_two_classes_share_a_name() -> None:
    assert len({kind.id for kind in classes()}) == len(classes())


def test_a_message_says_where() -> None:
    error = CorruptError("broken", path="f.index", offset=7, key="a/b")
    assert str(error) == "f.index: at byte 7: tensor 'a/b': broken"
    assert str(CorruptError("broken", offset=0)) == "at byte 0: broken"
    assert str(CorruptError("broken")) == "broken"


@pytest.mark.parametrize(("severity", "code"), [("note", 0), ("warning", 0), ("error", 1), ("damage", 1)])
def test_only_damage_changes_the_exit_code(severity: str, code: int) -> None:
    assert exit_code([Finding("x", severity, "message")]) == code  # type: ignore[arg-type]
    assert exit_code([]) == 0
