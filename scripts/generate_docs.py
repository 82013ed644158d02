"""Fill the outputs in the documentation by running the commands that they show.

    python scripts/generate_docs.py [PAGE...]   renew all of them, or these; of a Chinese page no command is run
    python scripts/generate_docs.py --check     exit 1 when a document is not what the commands print now

In a document, ``<!-- run: COMMAND -->`` is followed by a fenced block that is replaced by what COMMAND prints (both
streams, exit code when it is not 0). Commands of a document run one after the other, at 80 columns, in a directory
with the real old experiments of ``fixtures/``; ``<!-- hidden: COMMAND -->`` runs without being shown, and the fenced
block after ``<!-- file: PATH -->`` is written to that file for the commands below it. Between
``<!-- findings: begin -->`` and ``end`` stands the registry of findings; so does what ``make matrix`` counted. Chinese
pages take all of it from the English ones (`documents`), tables in Chinese.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import record
from documents import BLOCK, ENGLISH_PAGES, MADE, ROOT, chinese_of, english_of, filled, unbroken
from warm import environment

from ckpt_tools import finding_ids
from ckpt_tools.analysis.messages import KNOWN
from ckpt_tools.console.language import table, translated


def messages(say: Callable[[str], str]) -> str:
    """The table of the messages of others that are known; each id is an anchor."""
    head = " | ".join(say(column) for column in ("id", "cause", "next"))
    rows = (f'| <a id="{each.id}"></a>`{each.id}` | {say(each.cause)} | `{_command(each.fix)}` |' for each in KNOWN)
    return "\n".join([f"| {head} |", "|---|---|---|", *rows, ""])


def _command(fix: str) -> str:
    return fix.replace("{path}", "PATH")


def matrix(say: Callable[[str], str]) -> str:
    """The table of faults upon faults, of each command, as ``make matrix`` counted them; where one is lost its test
    fails, and nothing is counted."""
    rows = json.loads((ROOT / "tests" / "golden" / "matrix.json").read_text())
    keys = ("first", "left", "second", "left_again")
    columns = ("command", "first faults", "directories left", "second faults", "directories left then", "lost")
    total = {key: sum(count[key] for count in rows.values()) for key in keys}
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, count in rows.items():
        command, links, error = name.partition(", without links: ")
        alike.setdefault((command + links.rstrip(": "), *(str(count[key]) for key in keys)), []).append(error)
    lines = []
    for (command, *counts), errors in sorted(alike.items()):
        which = f" ({', '.join(errors)}: so many each)" if any(errors) else ""
        lines.append(f"| {command}{which} | {' | '.join(counts)} | 0 |")
    lines.append(f"| {say('all')} | {' | '.join(map(str, total.values()))} | 0 |")
    return "\n".join([f"| {' | '.join(map(say, columns))} |", "|---" * len(columns) + "|", *lines, ""])


_MAKERS: Mapping[str, Callable[[Callable[[str], str]], str]] = {
    "findings": finding_ids.markdown,
    "messages": messages,
    "matrix": matrix,
}
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
    variables = environment(
        COLUMNS="80",
        NO_COLOR="1",
        TF_CPP_MIN_LOG_LEVEL="3",
        TF_ENABLE_ONEDNN_OPTS="0",
        XDG_CONFIG_HOME=str(directory / ".config"),  # what a page trusts is not trusted by who renews it
    )
    variables.pop("FORCE_COLOR", None)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = "\n".join(line.rstrip() for line in done.stdout.decode().splitlines()).replace(f"{directory}/", "")
    for pattern, fixed in _VOLATILE:
        text = pattern.sub(fixed, text)
    return text + (f"\n(exit code {done.returncode})" if done.returncode else "")


def rendered(document: Path) -> str:
    """An English page with what its commands print now."""
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

        return made(BLOCK.sub(replace, document.read_text()), str)


def made(text: str, say: Callable[[str], str]) -> str:
    """A page with the tables of the registries, in the language of ``say``."""

    def replace(match: re.Match[str]) -> str:
        name = match["made"]
        return f"<!-- {name}: begin -->\n\n{_MAKERS[name](say)}\n<!-- {name}: end -->\n"

    return MADE.sub(replace, text)


def of_english(text: str, english: str) -> str:
    """A Chinese page with what the English one shows, tables in Chinese. Raises what `filled` raises."""
    return made(filled(unbroken(text), english), chinese)


def chinese(sentence: str) -> str:
    return translated(sentence, table())


def main() -> int:
    stale = []
    chosen = [Path(name).resolve() for name in sys.argv[1:] if not name.startswith("--")] or ENGLISH_PAGES
    for page in chosen:
        english = english_of(page) or page
        texts = {page: rendered(page)} if page == english else {}
        other = chinese_of(english)
        if other.is_file():
            texts[other] = of_english(other.read_text(), texts.get(english) or english.read_text())
        for document, new in texts.items():
            if new != document.read_text():
                stale.append(document.relative_to(ROOT))
                if "--check" not in sys.argv:
                    document.write_text(new)
    if not any(not name.startswith("--") for name in sys.argv[1:]):
        new = record.picture()
        if not record.PICTURE.is_file() or new != record.PICTURE.read_text():
            stale.append(record.PICTURE.relative_to(ROOT))
            if "--check" not in sys.argv:
                record.PICTURE.write_text(new)
    verb = "stale" if "--check" in sys.argv else "renewed"
    for name in stale:
        print(f"{verb}: {shlex.quote(str(name))}")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
