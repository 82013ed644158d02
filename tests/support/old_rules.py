"""Rules of the commit protocol that there were once, put back to see that a search finds them."""

from __future__ import annotations

import os

import pytest

from ckpt_tools.fs import local
from ckpt_tools.transactions import completion


def two_states_only(patch: pytest.MonkeyPatch) -> None:
    """The old recovery: an index that is not the new one is the old one."""

    def side(place: object, entry: object) -> tuple[str, str]:
        found = completion.side(place, entry)  # type: ignore[arg-type]
        return ("after", "") if found[0] == "after" else ("before", "")

    patch.setattr("ckpt_tools.transactions.journal.side", side)
    patch.setattr(completion, "_is_back", lambda *_: True)
    patch.setattr(completion, "_created", lambda _, entry, **__: [(name, True) for name in entry.created])
    patch.setattr(completion, "named_by", lambda *_: None)


def refused_is_absent(patch: pytest.MonkeyPatch) -> None:
    """The old look: what the system does not say is taken for absent, and the old rule that goes with it."""
    patch.setattr(local, "look", lambda path, **_: _old_look(path))
    two_states_only(patch)


def _old_look(path: local.PathLike) -> os.stat_result | None:
    where, at = local._at(path)
    try:
        return os.stat(where, follow_symlinks=False, **at)
    except OSError:
        return None
