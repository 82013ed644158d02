"""Faults upon faults, for every command that changes a checkpoint and every lineage: killed or refused at one of its
calls, then the recovery too, then again; with links and without. Each time nothing may be lost, every checkpoint that
was whole must be whole, and the same command, undisturbed, must end as if nothing had happened.

Three faults, chosen by chance (the same each time), run with the other tests; all pairs are slow, and counted: the
table of the README shows how many (``make matrix`` renews it).
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import faulty
import pytest
from checkpoints import OF_EACH_LINEAGE, Sample
from faulty import Fault
from matrix import OF_BUNDLES, OF_OTHERS, Case, Counts, Matrix
from old_rules import refused_is_absent

from ckpt_tools.readers import Bundle

COUNTS = Path(__file__).parents[2] / "golden" / "matrix.json"
NO_LINKS = ("EPERM", "EXDEV", "EMLINK")


@pytest.fixture
def place(sample: Sample, copy: Callable[..., Path]) -> tuple[Path, str]:
    """A copy of an experiment, with its logs, in a directory of its own."""
    prefix = sample.prefix_in(copy(sample))
    root = next(parent for parent in Path(prefix).parents if parent.name == "root")
    with Bundle(prefix):
        return root, prefix


def three_faults(case: Case, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(name)
    matrix = Matrix(case, monkeypatch, chance.choice([None, None, *NO_LINKS]))
    for _ in range(3):
        matrix.chain(chance, 3)


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
@pytest.mark.parametrize("name", OF_BUNDLES)
def test_three_faults_one_after_the_other(
    place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, name: str, sample: Sample
) -> None:
    three_faults(OF_BUNDLES[name](*place), f"{name} {sample.id}", monkeypatch)


@pytest.mark.parametrize("name", OF_OTHERS)
def test_three_faults_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    three_faults(OF_OTHERS[name](folder), name, monkeypatch)


# ------------------------------------------------------------------------------------------------- all pairs


def pairs(case: Case, name: str, monkeypatch: pytest.MonkeyPatch, links: str | None) -> None:
    chance = random.Random(name)
    counts = Matrix(case, monkeypatch, links).all_pairs(chance)
    assert counts.second > counts.first > 0
    record(f"{name}{'' if links is None else f', without links: {links}'}", counts)
    shutil.rmtree(case.folder)


def record(name: str, counts: Counts) -> None:
    """Write what was tried to the file that the documents are made of, when that is asked for."""
    if "CKPT_TOOLS_MATRIX" in os.environ:
        known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        known[name] = vars(counts)
        COUNTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("links", [None, *NO_LINKS])
@pytest.mark.parametrize("sample", OF_EACH_LINEAGE[:1], ids=lambda sample: sample.id)
@pytest.mark.parametrize("name", OF_BUNDLES)
def test_all_pairs(place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, name: str, links: str | None) -> None:
    pairs(OF_BUNDLES[name](*place), name, monkeypatch, links)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_OTHERS)
def test_all_pairs_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    pairs(OF_OTHERS[name](folder), name, monkeypatch, None)


def test_the_table_of_the_readme_is_of_these_commands() -> None:
    known = {name.partition(", without links")[0] for name in json.loads(COUNTS.read_text())}
    assert known <= {*OF_BUNDLES, *OF_OTHERS}


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE[:1], ids=lambda sample: sample.id)
def test_the_old_recovery_fails_it(
    place: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    sample: Sample,  # noqa: ARG001
) -> None:
    """It knew two states of an index, "the new one, or else roll back", and took a refused look for "not there"."""
    matrix = Matrix(OF_BUNDLES["backfill"](*place), monkeypatch, None)
    journal, index = Path(f"{place[1]}.index").parent / ".ckpt-tools/pending.json", Path(f"{place[1]}.index")
    new = index.read_bytes()
    with monkeypatch.context() as patch:
        refused_is_absent(patch)
        lost = 0
        for number in [number for number, call in enumerate(matrix.calls) if call in faulty.CHANGING]:
            faulty.build(matrix.start, matrix.case.folder)
            matrix.run(Fault(number, "killed"))
            if not journal.exists() or index.read_bytes() != new:
                continue  # not committed yet
            state = faulty.seen(matrix.case.folder)
            looks = [second for second, call in enumerate(matrix.run().calls) if call == "stat"]
            for second in looks:
                faulty.build(state, matrix.case.folder)
                matrix.run(Fault(second, "ESTALE"))
                try:
                    matrix.check((number, second))
                except AssertionError as error:
                    lost += "data is gone" in str(error) or "not whole" in str(error)
            if lost:
                break
    assert lost
