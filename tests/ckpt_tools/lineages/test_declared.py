"""Trainers that are described, not programmed: the presets on runs as their trainers leave them, and a ckpt.toml."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis import stability
from ckpt_tools.analysis.declaration_check import check_declaration
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.resume_forecast import forecast
from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.cli import run as ckpt
from ckpt_tools.errors import NotFoundError, UsageError
from ckpt_tools.lineages.declared.lookup import preset, presets
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.bulk_backfilling import backfill_all
from ckpt_tools.operations.declaring import draft
from ckpt_tools.operations.workers import Processes

GOLDEN = Path(__file__).parents[2] / "golden" / "names"


def names_of(family: str) -> list[str]:
    """The keys that the program itself saved."""
    return [json.loads(line)[0] for line in (GOLDEN / f"{family}.jsonl").read_text().splitlines()[1:]]


@dataclass(frozen=True)
class Family:
    """A run as a trainer leaves it: tensors, the prefix of its best (or newest), what lies beside, and the forecast."""

    prefix: str
    tensors: Iterable[str]
    files: dict[str, str] = field(default_factory=dict)
    verdict: str = "at-risk"
    words: str = "WILL overwrite the best model"


_ESTIMATOR = {"checkpoint": 'model_checkpoint_path: "model.ckpt-9"\n'}
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
FAMILIES = {
    "din": Family("dnn_best_model/ckpt_noshuffDIEN3", names_of("dien"), words="starts from new weights"),
    "deepinterest": Family("save_path/ckpt", names_of("din"), words="starts from new weights"),
    "sasrec": Family("model.ckpt", names_of("sasrec"), words="starts from new weights"),
    "bert": Family("out/model.ckpt-9", names_of("bert"), _ESTIMATOR, words="saved beside the old best"),
    "bert4rec": Family(
        "out/model.ckpt-9",
        ["bert/embeddings/word_embeddings", "bert/embeddings/position_embeddings", "cls/predictions/output_bias"],
        {"out/eval_results.txt": "ndcg@10 = 0.2\n"},
        words="saved beside the old best",
    ),
    "t5": Family("model.ckpt-9", names_of("t5"), words="saved beside the old best"),
    "slim": Family("train/model.ckpt-9", names_of("slim-inception-v3"), words="saved beside the old best"),
    "object-detection": Family("m/model.ckpt-9", names_of("object-detection"), words="saved beside the old best"),
    "deepctr": Family(
        "w/best",
        [f"sparse_emb_user/embeddings{_OBJECT}", f"prediction_layer/global_bias{_OBJECT}"],
        words="kept in memory only",
    ),
    "fuxictr": Family("ck/criteo/DIN_base.model", ["user/w"], words="starts from new weights"),
    "easyrec": Family(
        "exp/model.ckpt-9",
        ["global_step", "w"],
        {"exp/pipeline.config": "", "exp/eval_val/events.out.tfevents.1": ""},
        "safe",
        "the best is read from",
    ),
    "ngcf": Family("weights/weights-19", ["user_embedding", "item_embedding", "W_gc_0"], words="saved beside"),
    "estimator": Family(
        "model/model.ckpt-9",
        ["global_step", "w"],
        {"model/eval/events.out.tfevents.1": "", "model/export/best/1/saved_model.pb": ""},
        "safe",
        "the best is read from",
    ),
    "checkpoint-manager": Family("ck/ckpt-9", [f"save_counter{_OBJECT}", f"net/w{_OBJECT}"]),
    "keras-backup-and-restore": Family("backup/chief/ckpt-9", [f"model/w{_OBJECT}", f"save_counter{_OBJECT}"]),
    "tf-models": Family(
        "model/ckpt-9",
        [f"model/w{_OBJECT}"],
        {"model/best_ckpt/info.json": '{"best_ckpt_global_step": 9, "accuracy": 0.5}'},
        "safe",
        "the best is read from info.json",
    ),
}


def lay(place: Path, family: Family) -> str:
    for name, text in family.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / family.prefix).parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Any] = {
        name: np.array(9, np.int64) if "global_step" in name or "save_counter" in name else np.ones(2, np.float32)
        for name in family.tensors
    }
    return build_bundle(place / family.prefix, tensors)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_preset_recognises_its_trainer_and_forecasts_its_resume(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    prefix = lay(tmp_path, family)
    found = inspect(prefix)
    assert found.declared is not None
    assert found.declared.declaration.id == name
    assert found.to_json()["lineage"]["preset"] is True
    told = forecast(prefix)
    assert (told.verdict, family.words in told.sentence) == (family.verdict, True), told.sentence
    row = next(row for row in audit(str(tmp_path)).rows if row.prefix == prefix)
    assert (row.lineage, row.verdict) == (name, family.verdict)


def test_every_preset_is_tested_or_has_to_be_named() -> None:
    named = {each.id for each in presets() if not (each.recognition.tensors or each.recognition.files)}
    # NCF writes HDF5, which the tests of Keras files lay.
    assert {each.id for each in presets()} == {*FAMILIES, *named, "ncf"}
    with pytest.raises(UsageError) as caught:
        preset("dim")
    assert caught.value.hint == "did you mean 'din'?"


def test_other_programs_are_not_taken_for_a_preset_by_their_names_alone() -> None:
    from types import SimpleNamespace

    from ckpt_tools.lineages.declared.lookup import recognised

    told = {}
    for path in sorted(GOLDEN.glob("*.jsonl")):
        checkpoint: Any = SimpleNamespace(tensors=dict.fromkeys(names_of(path.stem)), prefix="/nowhere/model")
        found = recognised(checkpoint)
        if found is not None:
            told[path.stem] = found.id
    assert told == {
        "bert": "bert",
        "dien": "din",
        "din": "deepinterest",
        "object-detection": "object-detection",
        "sasrec": "sasrec",
        "slim-inception-v3": "slim",
        "t5": "t5",
    }


TOML = """
[experiment]
name = "{dataset}_{model}"
[layout]
best = "best/model"
latest = "model-*"
logs = "log.txt"
[metric]
name = "test hr"
mode = "max"
[variables]
model = "net/*"
optimizer = "*/Acc"
step = "count"
best = "top"
[resume]
restores = "latest"
best = "checkpoint"
"""


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """Two runs below one ckpt.toml; the first is looked at."""
    for name, best in (("book_din", 0.5), ("book_mind", 0.9)):
        run = tmp_path / name
        (run / "best").mkdir(parents=True)
        for prefix, count in (("best/model", 20), ("model-20", 20), ("model-30", 30)):
            build_bundle(
                run / prefix,
                {
                    "net/w": np.ones(2, np.float32),
                    "net/w/Acc": np.ones(2, np.float32),
                    "count": np.array(count, np.int32),
                    "top": np.float32(0),
                    "odd": np.ones(3, np.float32),
                },
            )
        (run / "log.txt").write_text("".join(f"step {s} test hr {v}\n" for s, v in ((10, 0.1), (20, best), (30, 0.3))))
    (tmp_path / "ckpt.toml").write_text(TOML)
    return tmp_path / "book_din"


def test_a_described_run_is_resolved_inspected_and_backfilled(described: Path) -> None:
    found = inspect(str(described))
    assert found.prefix == str(described / "best" / "model")
    assert found.declared is not None
    assert dict(found.declared.fields) == {"dataset": "book", "model": "din"}
    assert found.step == 20
    assert {tensor.name: tensor.group for tensor in found.tensors if tensor.name != "odd"} == {
        "net/w": "model",
        "net/w/Acc": "optimizer",
        "count": "state",
        "top": "state",
    }
    assert (found.best_metric.status, found.best_metric.key) == ("unset", "top")
    outcome = backfill(str(described), Options(from_logs=True))
    assert (outcome.written, outcome.value) == (True, 0.5)
    assert inspect(str(described)).best_metric.value == pytest.approx(0.5)


def test_a_described_run_is_forecast_from_what_its_trainer_restores(described: Path) -> None:
    told = forecast(str(described))
    assert told.verdict == "at-risk"
    assert told.sentence.startswith("at risk: model-30 is restored, but the best value was never set")
    assert told.unused == ("odd",)
    assert not told.survives["best_metric"]
    backfill(str(described / "model-30"), Options(value=0.5))
    assert forecast(str(described)).verdict == "safe"
    for prefix in ("model-20", "model-30"):
        for file in described.glob(f"{prefix}.*"):
            file.unlink()
    assert "model" in forecast(str(described)).sentence


def test_the_audit_says_which_checkpoint_holds_the_best(described: Path) -> None:
    rows = {row.path: row for row in audit(str(described.parent)).rows}
    assert (rows["book_din"].kind, rows["book_din"].best) == ("declared", "kept")
    assert rows["book_din"].best_logged == 0.5
    assert rows["book_mind"].best_logged == 0.9
    (described / "log.txt").write_text("step 20 test hr 0.2\nstep 40 test hr 0.8\n")
    rows = {row.path: row for row in audit(str(described.parent)).rows}
    assert rows["book_din"].best == "lost"


def test_a_described_run_is_one_row_and_what_is_no_part_of_it_another(described: Path) -> None:
    build_bundle(described / "extra", {"net/w": np.ones(2, np.float32)})
    found = audit(str(described.parent))
    assert {row.path: row.kind for row in found.rows} == {
        "book_din": "declared",
        "book_din/extra": "checkpoint",
        "book_mind": "declared",
    }
    row = next(row for row in found.rows if row.path == "book_din")
    files = [path for name in ("best/model", "model-20", "model-30") for path in described.glob(f"{name}.*")]
    assert row.nbytes == sum(path.stat().st_size for path in files)
    assert [row.kind for row in audit(str(described)).rows] == ["declared", "checkpoint"]
    for path in (described / "best").iterdir():
        path.unlink()
    row = next(row for row in audit(str(described.parent)).rows if row.path == "book_din")
    assert row.prefix == str(described / "model-30")


def test_a_declaration_that_cannot_be_used_groups_nothing(described: Path) -> None:
    (described.parent / "ckpt.toml").write_text("nonsense")
    rows = {row.path for row in audit(str(described.parent)).rows}
    assert {"book_din/best/model", "book_din/model-20", "book_din/model-30"} < rows


def test_all_described_runs_are_backfilled_under_the_paths_as_given(
    described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(described.parent.parent)
    root = described.parent.name
    found = backfill_all(root, Options(from_logs=True), Processes(1))
    assert [(row.status, row.outcome.value, row.outcome.path) for row in found.rows] == [
        ("written", 0.5, f"{root}/book_din/best/model"),
        ("written", 0.9, f"{root}/book_mind/best/model"),
    ]
    assert found.rows[0].outcome.prefix == f"{root}/book_din/best/model"


def test_what_is_declared_is_looked_for_again_while_somebody_saves(
    described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = described / "best" / "model.index"
    data = index.read_bytes()
    index.unlink()
    monkeypatch.setattr(stability, "let_rest", lambda: index.exists() or index.write_bytes(data))
    found = check_declaration(str(described))
    assert ("best", "best/model") in found.recognised


def test_what_is_recognised_and_what_not(described: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ckpt(["lineage", "test", str(described), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    facts = {row["what"]: row["is"] for row in document["recognised"]}
    assert facts["best"] == "best/model"
    assert facts["field model"] == "din"
    assert facts["best logged"] == "0.5 at step 20, of 3 values"
    assert document["unknown"] == ["tensor odd: of no declared group"]
    (described.parent / "ckpt.toml").write_text(TOML.replace('"net/*"', '["net/*", "odd"]'))
    assert ckpt(["lineage", "test", str(described)]) == 0
    (described.parent / "ckpt.toml").unlink()
    assert ckpt(["lineage", "test", str(described / "model-20")]) == NotFoundError.exit_code


def test_a_draft_is_understood_and_never_replaces_a_file(described: Path) -> None:
    (described.parent / "ckpt.toml").unlink()
    made = draft(str(described))
    assert made.written
    assert ckpt(["lineage", "test", str(described)]) == 0
    assert inspect(str(described)).prefix == str(described / "best" / "model")
    assert backfill(str(described), Options(from_logs=True)).value == 0.5
    with pytest.raises(UsageError, match="already"):
        draft(str(described))
    (described / "log.txt").write_text("step 20 val_auc 0.5 val_gauc 0.4\n")
    assert draft(str(described), force=True).candidates == ("val_auc", "val_gauc")


def test_a_preset_is_the_ground_that_a_file_builds_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = lay(tmp_path, Family("my/best_net", ["w"]))
    (tmp_path / "ckpt.toml").write_text("preset = 'keras-model-checkpoint'\n[metric]\nname = 'val_auc'\n")
    assert forecast(prefix).sentence.startswith("at risk: best_net is restored, but the best value was kept in memory")
    assert ckpt(["lineage", "list", str(tmp_path), "--json"]) == 0
    first, *others = json.loads(capsys.readouterr().out)["lineages"]
    assert (first["id"], first["metric"], first["trusted"]) == ("keras-model-checkpoint", "val_auc", False)
    assert len(others) == len(presets())


def test_the_report_shows_the_metric_that_is_declared(described: Path) -> None:
    pytest.importorskip("jinja2")
    from ckpt_tools.analysis.page_contents import run_contents
    from ckpt_tools.report.page import run_page

    (described / "log.txt").write_text("step 10 test hr 0.4\nstep 20 test hr 0.2\nstep 30 test hr 0.3\n")
    (described.parent / "ckpt.toml").write_text(
        TOML.replace('"max"', '"min"').replace("[exp", "title = 'My trainer'\n[exp")
    )
    page = run_page(run_contents(str(described)))
    tile = '0.2</dd><dd class="dim">test hr, step 20</dd>'
    for words in ("My trainer, dataset book, model din", tile, "at risk: model-30"):
        assert words in page
