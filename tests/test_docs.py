"""The documentation is what the programs really do: outputs generated, links whole, every command described."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import record
from documents import CHINESE, DOCS, ENGLISH_PAGES, chinese_of
from generate_docs import of_english, rendered

from ckpt_tools.analysis.messages import KNOWN
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import COMMANDS, run
from ckpt_tools.finding_ids import OF_ERRORS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("document", ENGLISH_PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_outputs_shown_are_those_of_the_commands(document: Path) -> None:
    """A test for each document: they take minutes together, and the workers share them."""
    assert document.read_text() == rendered(document), "renew it with: python scripts/generate_docs.py"


@pytest.mark.parametrize("document", ENGLISH_PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_chinese_page_shows_what_the_english_one_does(document: Path) -> None:
    text = chinese_of(document).read_text()
    assert text == of_english(text, document.read_text()), "renew it with: python scripts/generate_docs.py"


def test_the_recording_shows_what_the_commands_print() -> None:
    assert record.PICTURE.read_text() == record.picture(), "renew it with: python scripts/record.py"
    assert "http" not in re.sub(r'xmlns="[^"]*"|Rich https://[^ ]+', "", record.PICTURE.read_text())


def test_every_error_has_its_place_in_troubleshooting() -> None:
    for page in (DOCS / "troubleshooting.md", CHINESE / "troubleshooting.md"):
        text = page.read_text()
        assert [name for name in OF_ERRORS if f"\n### {name}\n" not in text] == []
        assert [known.id for known in KNOWN if f'<a id="{known.id}">' not in text] == []


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


@pytest.mark.tensorflow
def test_each_block_of_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs and the files for them are made by scripts/generate_docs.py, see above; what starts Keras, here."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    files = dict(re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```\n", page, re.MULTILINE | re.DOTALL))
    shown = re.findall(r"^<!-- run: .* -->\n```text\n", page, re.MULTILINE)
    (typed,) = re.findall(r"^```sh\n(.*?)^```\n", page, re.MULTILINE | re.DOTALL)
    assert page.count("```") == 2 * (len(files) + len(shown) + 1), "a block that nothing runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("task.py", "keras_train.py"):
        Path(name).write_text(files[name])
    states = []
    for line in typed.splitlines():
        program, *arguments = line.split()
        if program == "python":  # in this process, which has started TensorFlow already, or will once
            runpy.run_path(arguments[0])
            states.append(json.loads(Path("own/best.json").read_text()))
        else:
            assert program == "ckpt"
            assert run(arguments) == 0
    sys.modules.pop("task")  # the page's, not the next test's
    first, second = states
    assert (first["epoch"], second["epoch"]) == (3, 7), "counted from 0"
    assert second["best"] >= first["best"] > 0.5
    assert verify(str(Path("own", second["best_file"]))).whole
