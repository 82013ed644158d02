"""SARIF 2.1.0 of checks: each finding is a result, at the file of the checkpoint where it was found.

The OASIS standard asks for little; code hosts that show a log beside a change also want a ``startLine`` (1, for files
without lines), paths relative to the repository, and a fingerprint by which they know a result again.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ckpt_tools.cli.check import Check
from ckpt_tools.console.escapes import safe
from ckpt_tools.finding_ids import ALL
from ckpt_tools.findings import Finding
from ckpt_tools.redaction import redacted
from ckpt_tools.version import __version__

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"note": "note", "warning": "warning", "error": "error", "damage": "error"}


def sarif_log(checks: Sequence[Check], command: str, base: str = os.curdir) -> str:
    """The log as JSON; paths below ``base`` become relative to it."""
    found = [(check, finding) for check in checks for finding in check.findings]
    rules = list(dict.fromkeys(finding.id for _, finding in found))
    run = {
        "tool": {
            "driver": {
                "name": "ckpt-tools",
                "semanticVersion": __version__,
                "rules": [_rule(identity) for identity in rules],
            }
        },
        # Logs of several commands about one change stay side by side.
        "automationDetails": {"id": f"ckpt-{command}/"},
        "invocations": [{"executionSuccessful": not any(check.failed for check in checks)}],
        "results": [_result(check, finding, rules.index(finding.id), base) for check, finding in found],
    }
    return json.dumps(redacted({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}), indent=2) + "\n"


def _rule(identity: str) -> dict[str, Any]:
    known = ALL.get(identity)
    if known is None:  # an error of an evaluator that is none of ours
        words = {"text": f"{identity.replace('-', ' ').capitalize()}."}
        return {"id": identity, "shortDescription": words, "fullDescription": words}
    words = {"text": known.meaning}
    return {"id": identity, "shortDescription": words, "fullDescription": words, "help": {"text": known.advice}}


def _result(check: Check, finding: Finding, rule: int, base: str) -> dict[str, Any]:
    own = finding.path is not None and os.path.isfile(finding.path)  # noqa: TID251 - only shown
    address = _address(finding.path if own and finding.path else check.file, base)
    region: dict[str, Any] = {"startLine": 1}
    if own and finding.offset is not None:
        region |= {"byteOffset": finding.offset}
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": address}, "region": region}}
    if finding.key is not None:
        location["logicalLocations"] = [{"fullyQualifiedName": safe(finding.key), "kind": "variable"}]
    words = ": ".join(safe(part) for part in (check.name, finding.key, finding.message) if part)
    advice = f"\nNext: {safe(finding.fix)}" if finding.fix else ""
    same = "\0".join((finding.id, address, finding.key or ""))
    return {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": words + advice},
        "locations": [location],
        "partialFingerprints": {
            "primaryLocationLineHash": hashlib.sha256(same.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        },
    }


def _address(path: str, base: str) -> str:
    """A URI reference: relative below the base, else absolute; a URL is one already."""
    if "://" in path:
        return path
    whole = Path(os.path.abspath(path))
    relative = os.path.relpath(whole, base)
    if relative.startswith(os.pardir):
        return whole.as_uri()
    return urllib.parse.quote(os.fsencode(relative.replace(os.sep, "/")))
