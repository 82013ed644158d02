"""JSON Schemas of what the commands print with ``--json``: ``docs/reference/schemas/``.

    python scripts/generate_schemas.py           renew
    python scripts/generate_schemas.py --check   exit 1 when they are not those of the code

Each is made from the dataclass that a command answers with: which keys its ``to_json`` gives, read from its source, and
of which types these are, read from the annotations of the fields. What a ``to_json`` computes has its type in
`computed`, so that a new key fails here until somebody says what it is.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin, get_type_hints

from ckpt_tools.analysis.bootstrap import PairedDifference
from ckpt_tools.analysis.declaration_check import DeclarationCheck
from ckpt_tools.analysis.diagnosis import Diagnosis
from ckpt_tools.analysis.difference import Difference
from ckpt_tools.analysis.explanation import Explanation
from ckpt_tools.analysis.inspection import Inspection, Stats, Tensor
from ckpt_tools.analysis.inventory import Listing
from ckpt_tools.analysis.resume_forecast import Forecast
from ckpt_tools.analysis.run_audit import COLUMNS, Audit
from ckpt_tools.analysis.run_audit import Row as AuditRow
from ckpt_tools.analysis.verification import Verification
from ckpt_tools.console.output import SCHEMA_VERSION
from ckpt_tools.errors import EXIT_CODES
from ckpt_tools.finding_ids import ALL
from ckpt_tools.findings import Finding
from ckpt_tools.graphs.needs import Needs
from ckpt_tools.guard.status import Status
from ckpt_tools.lineages.base import Lineage
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.operations.averaging import Averaged
from ckpt_tools.operations.backfilling import Outcome
from ckpt_tools.operations.comparing import Comparison, Lead
from ckpt_tools.operations.demonstration import Demonstration
from ckpt_tools.operations.exporting import Export
from ckpt_tools.operations.growing import Grown, MovedRows
from ckpt_tools.operations.keeping import Shelved
from ckpt_tools.operations.migration import Migration
from ckpt_tools.operations.repairing import Action, Repair
from ckpt_tools.operations.significance import Rival, Significance
from ckpt_tools.operations.slimming import Slimmed
from ckpt_tools.operations.undoing import Undone
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.evaluations import LoggedEvaluation
from ckpt_tools.runs.orbax_run import OrbaxStep
from ckpt_tools.transactions.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "docs" / "reference" / "schemas"
Schema = dict[str, Any]

STRING, INTEGER, BOOLEAN, NULL = ({"type": name} for name in ("string", "integer", "boolean", "null"))
# JSON has neither NaN nor infinities.
NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
ANY: Schema = {}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(properties: Mapping[str, Schema], *, optional: Collection[str] = (), more: bool = False) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties)}
    found["required"] = [name for name in properties if name not in optional]
    return found if more else {**found, "additionalProperties": False}


def mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


# What describes the producer of a checkpoint; the hyper-parameters that it tells stand beside these.
LINEAGE = record(
    {"id": STRING, "producer": STRING, "model_type": nullable(STRING), "variant": STRING, "sources": mapping(STRING)},
    optional=("model_type", "variant", "sources"),
    more=True,
)
VALUE = record({"source": STRING, "metric": nullable(STRING), "value": NUMBER, "mode": nullable(STRING)})
# What ``ckpt guard --restore`` tells.
PUT_BACK = {
    "pin": STRING,
    "path": STRING,
    "metric": nullable(STRING),
    "value": nullable(NUMBER),
    "changes": array(STRING),
    "undo": nullable(STRING),
    "dry_run": BOOLEAN,
}
HELD = {"path": STRING, "line": STRING, "step": nullable(INTEGER), "values": array(VALUE), "nbytes": INTEGER}
METRIC = record({"name": nullable(STRING), "value": NUMBER}, more=True)
PIN = record(
    {
        "path": STRING,
        "source": STRING,
        "kind": STRING,
        "metric": nullable(STRING),
        "mode": nullable(STRING),
        "value": nullable(NUMBER),
        "step": nullable(INTEGER),
        "epoch": nullable(INTEGER),
        "line": nullable(STRING),
        "written": NUMBER,
        "nbytes": INTEGER,
        "stored_in_checkpoint": BOOLEAN,
        "best": BOOLEAN,
        "whole": BOOLEAN,
    }
)
# Its points have other keys where a ckpt.toml or a preset describes the run.
HISTORY = record(
    {
        "metric": STRING,
        "mode": nullable({"enum": ["min", "max"]}),
        "axis": STRING,
        "points": array(record({"step": nullable(INTEGER), "source": STRING}, more=True)),
        "best": nullable(INTEGER),
    }
)
SIGNATURES = mapping(record({"inputs": mapping(STRING), "outputs": mapping(STRING)}))
MAPPED = array(record({"name": STRING, "from": array(STRING)}))


def computed() -> Mapping[tuple[type, str], Schema]:
    """The types of what a ``to_json`` makes of its fields."""
    return {
        (Inspection, "lineage"): nullable(LINEAGE),
        (Inspection, "history"): nullable(HISTORY),
        (Inspection, "graph"): record(
            {**of_fields_of(Needs, ("nodes", "fed", "offers", "missing")), "signatures": SIGNATURES}
        ),
        (Inspection, "steps"): array(of_fields(OrbaxStep)),
        (Inspection, BEST_METRIC): of_fields(hints_of(Inspection)["best_metric"]),
        (Forecast, "lineage"): nullable(LINEAGE),
        (Forecast, BEST_METRIC): record(
            {"status": {"enum": ["absent", "unset", "present"]}, "value": nullable(NUMBER)}
        ),
        (DeclarationCheck, "lineage"): nullable(LINEAGE),
        (DeclarationCheck, "recognised"): array(record({"what": STRING, "is": STRING})),
        (Outcome, "metric"): nullable(METRIC),
        (Outcome, "lineage"): nullable(LINEAGE),
        (Migration, "prefix"): STRING,
        (Migration, "lineage"): LINEAGE,
        (Migration, "mapped"): MAPPED,
        (Migration, BEST_METRIC): nullable(NUMBER),
        (Shelved, "keep"): array(record({**HELD, "reasons": array(STRING)})),
        (Shelved, "may_go"): array(record({**HELD, "files": array(STRING)})),
        (Slimmed, "bytes"): record({"kept": INTEGER, "dropped": INTEGER}),
        (Grown, "item_count"): record({"before": INTEGER, "after": INTEGER}),
        (Grown, "rows"): of_fields(MovedRows),
        (Undone, "undone"): array(STRING),
        (Demonstration, "findings"): array(FINDING),
        (Undone, "findings"): array(FINDING),
        (Curve, "points"): array(record({**of_fields(LoggedEvaluation)["properties"], "resumed": BOOLEAN})),
        (Comparison, "best"): STRING,
        (Status, "best"): nullable(STRING),
        (Status, "pinned"): array(PIN),
        (Listing, "shard"): STRING,
        (Action, "change"): mapping(ANY),
        (Significance, "users"): INTEGER,
    }


def of_type(hint: Any) -> Schema:
    """The schema of an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    simple = {str: STRING, int: INTEGER, float: NUMBER, bool: BOOLEAN, type(None): NULL, Any: ANY, object: ANY}
    if hint in simple:
        return simple[hint]
    if isinstance(hint, str | ForwardRef):
        raise TypeError(f"{hint} is not resolved")
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(each) for each in arguments]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return mapping(of_type(arguments[1]))
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return array(of_type(arguments[0]))
    if hint is Finding:
        return FINDING
    if hint in (Plan,):
        return mapping(ANY)  # what would be written: for people and for tests, and no promise
    if is_dataclass(hint):
        return of_answer(hint) if hasattr(hint, "to_json") else of_fields(hint)
    raise TypeError(f"no schema for {hint}")


def hints_of(kind: Any) -> dict[str, Any]:
    """The types of the fields; those that only a type checker imports are looked for among the names of this file."""
    found = {}
    for base in reversed(kind.__mro__):
        for name, annotation in vars(base).get("__annotations__", {}).items():
            with contextlib.suppress(NameError):
                found[name] = eval(annotation, {**globals(), **vars(sys.modules[base.__module__])})
    return found


def of_fields(kind: Any) -> Schema:
    """What ``asdict`` gives."""
    hints = hints_of(kind)
    return record({field.name: of_type(hints[field.name]) for field in fields(kind)})


def of_answer(kind: Any) -> Schema:
    """What the ``to_json`` of a dataclass gives."""
    if issubclass(kind, Lineage):
        return LINEAGE
    if kind is Tensor:
        properties = {**of_fields(Tensor)["properties"], "sha256": STRING, "stats": of_fields(Stats)}
        return record(properties, optional=("sha256", "stats"))
    if kind is AuditRow:
        own = of_fields_of(AuditRow, COLUMNS)
        return record(
            {
                **own,
                "orphans": array(STRING),
                "duplicates": array(STRING),
                "recalls": array(NUMBER),
                "resumes": array(INTEGER),
            }
        )
    if kind is Rival:
        lead = of_answer(PairedDifference)["properties"]
        return record({**of_fields_of(Rival, ("prefix", "step", "value", "same")), **lead})
    if kind in (Lead, Diagnosis):
        return of_fields(kind)
    body = ast.parse(textwrap.dedent(inspect.getsource(kind.to_json))).body[0]
    answers = [node.value for node in ast.walk(body) if isinstance(node, ast.Return)]
    if len(answers) != 1:
        raise TypeError(f"{kind.__name__}.to_json has {len(answers)} answers")
    if not isinstance(answers[0], ast.Dict):
        return of_fields(kind)
    known = computed() if kind is not Finding else {}
    properties: dict[str, Schema] = {}
    optional: list[str] = []
    for key, value in zip(answers[0].keys, answers[0].values, strict=True):
        if key is None and isinstance(value, ast.IfExp) and isinstance(value.body, ast.Dict):
            # **({"name": ...} if there is one else {})
            for inner, made in zip(value.body.keys, value.body.values, strict=True):
                if not isinstance(inner, ast.Constant):
                    raise TypeError(f"{kind.__name__}.to_json: a key that is not written out")
                optional.append(inner.value)
                properties[inner.value] = known.get((kind, inner.value)) or of_expression(kind, made)
            continue
        if key is None:
            raise TypeError(f"{kind.__name__}.to_json: say what {ast.unparse(value)} gives")
        name = key.value if isinstance(key, ast.Constant) else BEST_METRIC
        if name not in ("schema_version", "command"):
            properties[name] = known.get((kind, name)) or of_expression(kind, value)
    return record(properties, optional=optional)


def of_fields_of(kind: Any, names: Sequence[str]) -> dict[str, Schema]:
    hints = hints_of(kind)
    return {name: of_type(hints[name]) for name in names if name in hints}


def of_expression(kind: Any, value: ast.expr) -> Schema:
    """The type of ``self.name``, of ``self.name.other``, or of what is made of one without changing what it is."""
    names = {
        node.attr
        for node in ast.walk(value)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    if len(names) != 1:
        raise TypeError(f"{kind.__name__}.to_json: say in computed() what {ast.unparse(value)} is")
    (name,) = names
    hint = hint_of(kind, name)
    if isinstance(value, ast.IfExp) and isinstance(value.body, ast.Attribute) and hint is not None:
        return nullable(of_expression(kind, value.body))
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Attribute) and hint is not None:
        (inner,) = [each for each in get_args(hint) or (hint,) if each is not type(None)]
        return of_expression(inner, ast.Attribute(ast.Name("self", ast.Load()), value.attr, ast.Load()))
    if hint is None:
        raise TypeError(f"{kind.__name__}.{name}: say in computed() what {ast.unparse(value)} is")
    return of_type(hint)


def hint_of(kind: Any, name: str) -> Any:
    """The type of a field, or of what a property returns; None when neither tells."""
    hints = hints_of(kind)
    if name in hints:
        return hints[name]
    found = inspect.getattr_static(kind, name)
    getter = getattr(found, "fget", None) or getattr(found, "func", None)
    return getter and get_type_hints(getter, vars(sys.modules[kind.__module__]))["return"]


FINDING = record(
    {
        "id": {"enum": sorted(ALL)},
        "severity": {"enum": ["note", "warning", "error", "damage"]},
        "message": STRING,
        "path": nullable(STRING),
        "key": nullable(STRING),
        "offset": nullable(INTEGER),
        "fix": nullable(STRING),
    }
)
ERROR = record(
    {
        "id": {"enum": sorted(ALL)},
        "exit_code": {"enum": sorted(EXIT_CODES)},
        "message": STRING,
        "hint": nullable(STRING),
    }
)


def document(command: str | None, properties: Mapping[str, Schema], *, optional: Collection[str] = ()) -> Schema:
    """The whole object that a command prints."""
    head = {
        "schema_version": {"const": SCHEMA_VERSION},
        "command": nullable(STRING) if command is None else {"const": command},
        "path": nullable(STRING),
        "findings": array(FINDING),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "an error" if command is None else f"ckpt {command} --json",
        **record({**properties, **head}, optional=optional),
    }


def answer(command: str, kind: Any, more: Mapping[str, Schema] | None = None, optional: Collection[str] = ()) -> Schema:
    own = of_answer(kind)
    missing = own["properties"].keys() - set(own["required"])
    return document(command, {**own["properties"], **(more or {})}, optional={*optional, *missing})


def several(command: str, kind: Any, optional: Mapping[str, Schema] | None = None) -> Schema:
    """Of one path its answer; of several ``results`` with an answer each."""
    one = answer(command, kind, optional, optional or ())
    each = record({**of_answer(kind)["properties"], **(optional or {}), "path": STRING, "findings": array(FINDING)})
    each["required"] = ["path", "findings"]
    each["properties"]["error"] = STRING
    head = {key: value for key, value in one.items() if key in _HEAD}
    return {**head, "oneOf": [_bare(one), _bare(document(command, {"results": array(each)}))]}


_HEAD = ("$schema", "title")


def _bare(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in _HEAD}


def schemas() -> dict[str, Schema]:
    """All of them by the name of their file."""
    manifest = record({"file": STRING, "written": BOOLEAN, "compared": INTEGER})
    bulk = record({**of_answer(Outcome)["properties"], "status": STRING, "error": nullable(STRING)})
    written = {"written": BOOLEAN}
    migrated = {"output": nullable(STRING), "backup": nullable(STRING)}
    found = {
        "inspect": answer("inspect", Inspection),
        "verify": several("verify", Verification, {"manifest": manifest}),
        "resume-check": several("resume-check", Forecast),
        "diff": answer("diff", Difference),
        "explain": answer("explain", Explanation),
        "audit": answer("audit", Audit),
        "backfill": document(
            "backfill",
            {"experiments": array({"anyOf": [of_answer(Outcome), bulk]}), "totals": mapping(INTEGER)},
            optional=("totals",),
        ),
        "repair": answer("repair", Repair, written),
        "undo": answer("undo", Undone),
        "export": answer("export", Export),
        "slim": answer("slim", Slimmed),
        "average": answer("average", Averaged),
        "grow": answer("grow", Grown),
        "keep": answer("keep", Shelved),
        "migrate": answer("migrate", Migration, {**written, **migrated}, ("called", BEST_METRIC)),
        "demo": answer("demo", Demonstration),
        "why": document(
            "why",
            {
                "prefix": STRING,
                "changes": array(record({"schema_version": INTEGER, "kind": STRING, "id": STRING}, more=True)),
                "history": of_answer(Curve),
                "significance": of_answer(Significance),
            },
            optional=("significance",),
        ),
        "guard": answer(
            "guard",
            Status,
            {"exit_code": INTEGER, "restored": record(PUT_BACK)},
            ("exit_code", "restored", *of_answer(Status)["properties"]),
        ),
        "error": document(None, {"error": ERROR}),
    }
    return {f"{name}.json": schema for name, schema in found.items()}


def main() -> int:
    stale = []
    made = {name: json.dumps(schema, indent=1, ensure_ascii=False) + "\n" for name, schema in schemas().items()}
    there = {path.name for path in SCHEMAS.glob("*.json")}
    for name in sorted(made.keys() | there):
        path = SCHEMAS / name
        if name in made and name in there and path.read_text() == made[name]:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            SCHEMAS.mkdir(exist_ok=True)
            path.write_text(made[name]) if name in made else path.unlink()
    verb = "stale" if "--check" in sys.argv else "renewed"
    for name in stale:
        print(f"{verb}: {(SCHEMAS / name).relative_to(ROOT)}")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
