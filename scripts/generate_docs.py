"""Fill the outputs in the documentation by running the commands that they show.

    python scripts/generate_docs.py [PAGE...]   renew all of them, or these
    python scripts/generate_docs.py --check     exit 1 when a document is not what the commands print now

In a document, ``<!-- run: COMMAND -->`` is followed by a fenced block that is replaced by what COMMAND prints (both
streams, exit code when it is not 0). Commands of a document run one after the other, at 80 columns, in a directory
with the real old experiments of ``fixtures/``; ``<!-- hidden: COMMAND -->`` runs without being shown, and the fenced
block after ``<!-- file: PATH -->`` is written to that file for the commands below it. Between
``<!-- findings: begin -->`` and ``end`` stands the registry of findings, between ``<!-- matrix: begin -->`` and ``end``
what ``make matrix`` counted.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ckpt_tools.finding_ids import markdown

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("**/*.md"))]

_BLOCK = re.compile(
    r"<!-- (?P<kind>run|hidden): (?P<command>.*?) -->\n(?:```text\n.*?```\n)?"
    r"|<!-- file: (?P<file>\S+) -->\n```\w+\n(?P<text>.*?)```\n",
    re.DOTALL,
)
_FINDINGS = re.compile(r"(?<=<!-- findings: begin -->\n).*?(?=<!-- findings: end -->)", re.DOTALL)
_MATRIX = re.compile(r"(?<=<!-- matrix: begin -->\n).*?(?=<!-- matrix: end -->)", re.DOTALL)
# What differs from run to run: the time, and the names that are made of it.
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"), "2026-01-31T12:00:00+00:00"),
    (re.compile(r"\d{8}T\d{6}-"), "20260131T120000-"),
    (re.compile(r"--delete [0-9a-f]{64}"), "--delete DIGEST"),
    (re.compile(r'time="\d+\.\d{3}"'), 'time="0.010"'),
)


def workplace(directory: Path) -> None:
    """The experiments of all lineages under one ``best_model`` and ``runs``, and their data."""
    for lineage in sorted((ROOT / "fixtures" / "experiments").iterdir()):
        if lineage.is_dir():
            for kind in ("best_model", "runs"):
                shutil.copytree(lineage / kind, directory / kind, dirs_exist_ok=True)
    shutil.copytree(ROOT / "fixtures" / "data", directory / "data")


def run(command: str, directory: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "XDG_CONFIG_HOME": str(directory / ".config"),  # what a page trusts is not trusted by who renews it
    }
    environment.pop("FORCE_COLOR", None)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = "\n".join(line.rstrip() for line in done.stdout.decode().splitlines()).replace(f"{directory}/", "")
    for pattern, fixed in _VOLATILE:
        text = pattern.sub(fixed, text)
    return text + (f"\n(exit code {done.returncode})" if done.returncode else "")


def rendered(document: Path) -> str:
    """What ``document`` should be now: its commands run, in their order, in a workplace of its own."""
    text = _MATRIX.sub(lambda _: f"\n{matrix()}\n", document.read_text())
    if not (_BLOCK.search(text) or _FINDINGS.search(text)):
        return text
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place).resolve()
        workplace(directory)

        def replace(match: re.Match[str]) -> str:
            if match["file"]:
                (directory / match["file"]).write_text(match["text"])
                return match[0]
            command = match["command"]
            output = run(command, directory).strip("\n")
            head = f"<!-- {match['kind']}: {command} -->\n"
            return head if match["kind"] == "hidden" else f"{head}```text\n$ {command}\n{output}\n```\n"

        return _FINDINGS.sub(lambda _: f"\n{markdown()}\n", _BLOCK.sub(replace, text))


def matrix() -> str:
    """The table of faults upon faults, of each command; none was lost, else the tests had not counted it."""
    rows = json.loads((ROOT / "tests" / "golden" / "matrix.json").read_text())
    head = "| command | first faults | directories they left | second faults | directories these left | lost |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, count in rows.items():
        lines.append(f"| {name} | {count['first']} | {count['left']} | {count['second']} | {count['left_again']} | 0 |")
    total = {key: sum(count[key] for count in rows.values()) for key in ("first", "left", "second", "left_again")}
    return "\n".join([*lines, f"| all | {' | '.join(map(str, total.values()))} | 0 |"])


def main() -> int:
    stale = []
    chosen = [Path(name).resolve() for name in sys.argv[1:] if not name.startswith("--")]
    for document in chosen or DOCUMENTS:
        new = rendered(document)
        if new != document.read_text():
            stale.append(document.relative_to(ROOT))
            if "--check" not in sys.argv:
                document.write_text(new)
    verb = "stale" if "--check" in sys.argv else "renewed"
    for name in stale:
        print(f"{verb}: {shlex.quote(str(name))}")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
