"""``ckpt demo``, and the first minute of README in a clean directory."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path

import pytest

from ckpt_tools.cli import run

ROOT = Path(__file__).resolve().parents[3]
ARCHIVE = ROOT / "ckpt_tools" / "operations" / "data" / "demo.zip"


def test_it_holds_the_fixtures_and_is_small() -> None:
    assert ARCHIVE.stat().st_size < 300_000
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            base = ROOT / "fixtures" if name.startswith("data/") else ROOT / "fixtures" / "experiments" / "tf2.21"
            assert archive.read(name) == (base / name).read_bytes(), "renew it: python scripts/pack_demo.py"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_main_job_of_the_readme_works_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo"]) == 0
    monkeypatch.chdir("ckpt-demo")
    shown = re.findall(r"<!-- run: (ckpt .*?) -->", (ROOT / readme).read_text())
    of_the_demo = [command for command in shown if "k3_ComiRec-DR" in command]
    assert len(of_the_demo) == 3
    for command in of_the_demo:
        assert run(shlex.split(command)[1:]) == 0, command
    assert "best_metric  0.091495" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    written = [Path(path) for path in document["written"]]
    assert all(path.is_file() for path in written)
    written[-1].write_text("mine")
    written[0].unlink()
    assert run(["demo", str(tmp_path)]) == 2
    assert written[-1].read_text() == "mine"
    assert not written[0].exists()
