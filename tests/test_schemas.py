"""What the commands print with ``--json`` is what the published schemas promise."""

from __future__ import annotations

import json
import shlex
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import generate_schemas
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from ckpt_tools.cli import COMMANDS, run

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "docs" / "reference" / "schemas"
RUN = "best_model/book_ComiRec-DR_b128_lr0.005_d8_len20_k3_ComiRec-DR"
# These have no JSON, or one that is made of another program's words.
WITHOUT = {"browse", "lineage", "report"}


@cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("schemas")
    assert run(["demo", str(directory), "--quiet"]) == 0
    other = ROOT / "fixtures/experiments/tf1.15/best_model"
    for model in ("DNN", "ComiRec-DR"):
        source = next(other.glob(f"*{model}"))
        shutil.copytree(source, directory / "best_model" / source.name)
    damaged = directory / "damaged" / "model"
    shutil.copytree(directory / RUN / "keras_ckpt", damaged)
    data = next(damaged.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:50_000])
    return directory


# One after the other; what a command changes the next ones see.
OLD = "best_model/book_DNN_b128_lr0.005_d8_len20_tf1_DNN"
ANSWERS = [
    ("inspect", 0, f"inspect {RUN} --stats --digest"),
    ("inspect", 0, f"inspect {OLD}"),
    ("inspect", 1, "inspect damaged/model"),
    ("verify", 0, f"verify {RUN}"),
    ("verify", 0, f"verify {RUN} --manifest list.json"),
    ("verify", 1, f"verify {RUN} damaged/model nowhere"),
    ("resume-check", 1, f"resume-check {RUN}"),
    ("resume-check", 1, f"resume-check {RUN} {OLD} nowhere"),
    ("resume-check", 1, f"resume-check {RUN} --with comirec-keras"),
    ("diff", 1, f"diff {RUN} {OLD}"),
    ("explain", 0, f"explain 'file signature not found' {RUN}"),
    ("explain", 0, "explain not-found"),
    ("audit", 1, "audit . --verify"),
    ("backfill", 0, f"backfill {RUN} {OLD} --data data --dry-run"),
    ("backfill", 0, f"backfill {RUN} --data data"),
    ("why", 0, f"why {RUN}"),
    ("resume-check", 0, f"resume-check {RUN}"),
    ("keep", 0, "keep best_model --last 1"),
    ("export", 0, f"export {RUN} out.npz"),
    ("slim", 0, f"slim {RUN} slim/ckpt"),
    ("average", 0, f"average {RUN} slim/ckpt mean/ckpt"),
    ("migrate", 0, f"migrate {OLD} --to trainer --output migrated"),
    ("repair", 0, f"repair {RUN}"),
    ("repair", 1, "repair damaged/model --dry-run"),
    ("undo", 0, f"undo {RUN}"),
    ("backfill", 0, "backfill --all best_model --data data --workers 1 --dry-run"),
    ("demo", 0, "demo again"),
    ("error", 3, "inspect nowhere"),
    ("error", 2, "inspect --bogus"),
    ("error", 3, "explain 'never heard of'"),
]


def test_the_answers_are_as_promised(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(place)
    seen = set()
    for name, code, line in ANSWERS:
        found = run([*shlex.split(line), "--json"])
        said = capsys.readouterr()
        problems = [
            f"{error.json_path}: {best_match([error]).message[-300:]}"
            for error in validator(name).iter_errors(json.loads(said.out))
        ]
        assert (line, found, problems) == (line, code, []), said.err
        seen.add(name)
    promised = {path.stem for path in SCHEMAS.glob("*.json")}
    # Of these a guarded run and two catalogues are needed; their own tests look at the keys.
    assert promised - seen == {"guard", "grow"}


def test_a_schema_for_each_command() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(COMMANDS) - WITHOUT | {"error"}


def test_the_schemas_are_those_of_the_code() -> None:
    made = generate_schemas.schemas()
    for name, schema in made.items():
        there = json.loads((SCHEMAS / name).read_text())
        assert there == json.loads(json.dumps(schema)), "renew it: python scripts/generate_schemas.py"


def test_what_is_not_promised_is_no_answer(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(place)
    assert run(["inspect", RUN, "--json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    assert validator("inspect").is_valid(document)
    assert not validator("inspect").is_valid({**document, "more": 1})
    assert not validator("inspect").is_valid({key: value for key, value in document.items() if key != "step"})
    assert not validator("inspect").is_valid({**document, "step": "150"})
