"""A bare name, in the directory that one stands in, is what its full path is: for every command that changes or
deletes something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import contents
from matrix import trained

from ckpt_tools.readers import Bundle


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = tmp_path / "run"
    for number in (1, 2, 3):
        trained(run / f"m-{number}", number)
    monkeypatch.chdir(run)
    return run


@pytest.mark.parametrize(
    "words", [("slim", "m-1", "out"), ("average", "m-1", "m-2", "out")], ids=lambda words: str(words[0])
)
def test_a_new_checkpoint_beside_others(here: Path, ckpt: Callable, words: tuple[str, ...]) -> None:
    before = contents(here)
    assert ckpt(*words).code == 0
    with Bundle(str(here / "out")) as bundle:
        assert not [finding for finding in bundle.verify() if finding.severity != "note"]
    assert ckpt("undo", "out").code == 0
    assert {name: digest for name, digest in contents(here).items() if ".ckpt-tools" not in name} == before


def test_a_new_checkpoint_in_an_empty_directory(here: Path, ckpt: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = here.parent / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert ckpt("slim", here / "m-1", "out").code == 0
    assert (empty / "checkpoint").read_text().startswith('model_checkpoint_path: "out"')


def test_a_repair_of_one_checkpoint(here: Path, ckpt: Callable) -> None:
    assert ckpt("repair", "m-1").code == 0
    (here / "m-1.index").rename(here / "m-1.index.ckpt-tools")
    bare, full = ckpt("repair", "m-1", "--dry-run"), ckpt("repair", here / "m-1", "--dry-run")
    assert (bare.code, bare.out.replace("./", "")) == (full.code, full.out.replace(f"{here}/", ""))


@pytest.mark.parametrize("stored", ["m-1", "./m-1"])
def test_what_may_go(here: Path, ckpt: Callable, stored: str) -> None:
    (here / "checkpoint").write_text(f'model_checkpoint_path: "{stored}"\n')
    policies = ("--last", "1", "--unknown-best")
    digest = ckpt("keep", ".", *policies, "--json").json["digest"]
    assert ckpt("keep", ".", *policies, "--delete", digest).code == 0
    assert sorted(path.stem for path in here.glob("*.index")) == ["m-1", "m-3"]
