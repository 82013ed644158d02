"""The documentation is what the programs really do: outputs generated, links whole, every command described."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt_tools.cli import COMMANDS

ROOT = Path(__file__).parents[1]


@pytest.mark.xdist_group("docs")
def test_the_outputs_shown_are_those_of_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrenew them with: python scripts/generate_docs.py"


@pytest.mark.xdist_group("docs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_every_command_is_in_the_documentation() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    assert [name for name in COMMANDS if f"ckpt {name}" not in pages] == []


def test_project_files_name_no_other_machine() -> None:
    """Nothing that is committed tells of the place where it was made."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    names = [name for name in listed.split("\0") if name and not name.startswith("fixtures/")]
    if not names:
        pytest.skip("not a git checkout")
    forbidden = ["/ro" + "ot/", "/wo" + "rk/", "/ho" + "me/", "python" + "hosted", "index-" + "url "]
    for name in names:
        text = (ROOT / name).read_text(errors="replace")
        assert not [word for word in forbidden if word in text], name


def test_the_faults_name_tests_that_there_are() -> None:
    rows = (ROOT / "docs" / "reference" / "faults.md").read_text().splitlines()
    named = {file for row in rows if row.startswith("| ") for file in re.findall(r"`([^`]+\.py)`", row)}
    assert len(named) > 20
    assert [file for file in sorted(named) if not (ROOT / "tests" / file).is_file()] == []
