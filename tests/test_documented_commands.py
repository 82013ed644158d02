"""Each command that a page shows without running it is one that the programs take: its names and options are right.

What pages show with its output is run by ``scripts/generate_docs.py``, the README as a whole by
``scripts/paste_readme.py``, and the tutorial by ``test_docs.py``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paste_readme
import pytest
from documents import BLOCK, ENGLISH_PAGES, MADE, README_CHINESE, ROOT, chinese_of

from ckpt_tools import cli as ckpt
from ckpt_tools.errors import EXIT_BUG, UsageError
from trainer import cli as trainer

PAGES = [*ENGLISH_PAGES, *map(chinese_of, ENGLISH_PAGES)]
PROGRAMS: dict[str, Callable[[list[str]], int]] = {"ckpt": ckpt.run, "trainer": trainer.run}
# Other programs, and what is tried elsewhere.
OTHERS = {"make", "pip", "cd", "export", "python"}


def typed() -> Iterator[tuple[str, str]]:
    """The page and the line of each command in a block of a shell that is shown as it is."""
    for page in PAGES:
        rest = BLOCK.sub("", MADE.sub("", page.read_text()))
        for body in re.findall(r"^[ ]*```(?:sh|text)\n(.*?)^[ ]*```\n", rest, re.MULTILINE | re.DOTALL):
            for line in body.replace("\\\n", " ").splitlines():
                if line.strip():
                    yield page.relative_to(ROOT).as_posix(), line.strip()


LINES = list(dict.fromkeys(line for _, line in typed()))


def test_there_are_such_lines() -> None:
    assert len(LINES) > 20
    assert {line.split()[0] for line in LINES} <= {*PROGRAMS, *OTHERS}


@pytest.mark.parametrize("line", [line for line in LINES if line.split()[0] in PROGRAMS])
def test_the_programs_take_it(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """In an empty directory each of them ends because nothing is there, never because it is written wrongly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    if line.startswith("ckpt audit s3://"):
        (tmp_path / "inventory.csv.gz").touch()
    program, *arguments = shlex.split(line, comments=True)
    code = PROGRAMS[program](arguments)
    said = capsys.readouterr().err
    assert code not in (UsageError.exit_code, EXIT_BUG), said


@pytest.mark.parametrize("page", ["README.md", README_CHINESE.name])
def test_every_block_of_the_readme_is_typed(page: str) -> None:
    text = (ROOT / page).read_text()
    lines = list(paste_readme.commands(text))
    assert len(lines) == 8
    assert lines[:3] == [line for line in (text.split("```sh\n")[1].split("```")[0]).splitlines() if line]
    assert sum(line.startswith("trainer ") for line in lines) == 1
    made = "\n".join(paste_readme.script(text, Path("constraints.txt")))
    subprocess.run(["bash", "-n", "-c", made], check=True)


@pytest.mark.slow
def test_every_block_of_the_readme_works_from_nothing() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "paste_readme.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
