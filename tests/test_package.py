"""What is built installs in an empty environment and works there, without TensorFlow."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
from importlib import import_module
from pathlib import Path
from types import ModuleType

import generate_man
import pytest
import set_urls
import yaml

from ckpt_tools.cli import COMMANDS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel that is built from it."""
    directory = tmp_path_factory.mktemp("dist")
    try:
        subprocess.run([sys.executable, ROOT / "scripts" / "generate_man.py"], check=True)
        subprocess.run([sys.executable, "-m", "build", "--outdir", directory, ROOT], check=True, capture_output=True)
    finally:
        shutil.rmtree(ROOT / "share", ignore_errors=True)
    return directory


@pytest.mark.parametrize("kind", ["*.whl", pytest.param("*.tar.gz", marks=pytest.mark.slow)])
def test_what_is_built_installs_and_works(built: Path, kind: str, tmp_path: Path) -> None:
    package = next(built.glob(kind))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    install = [python, "-m", "pip", "install", "--quiet", "-c", constraints, package]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    experiment = next((ROOT / "fixtures/experiments/tf1.15/best_model").glob("*DNN"))
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "ckpt", "inspect", experiment], capture_output=True, text=True, check=True
    )
    assert "comirec-tf1" in done.stdout
    absent = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is not None)"
    subprocess.run([python, "-c", absent], check=True)
    assert (tmp_path / "venv" / "share" / "man" / "man1" / "ckpt.1").is_file()


def test_the_sdist_has_man_pages_and_completion(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"share/{name}" for name, _ in generate_man.files()} <= names


def test_the_man_pages_tell_every_command_and_option(tmp_path: Path) -> None:
    pages = dict(generate_man.files())
    ckpt = pages["man/man1/ckpt.1"].replace("\\-", "-")
    assert [name for name in COMMANDS if f".SS ckpt {name}" not in ckpt] == []
    assert ".B --filter GLOB" in ckpt
    trainer = pages["man/man1/trainer.1"].replace("\\-", "-")
    assert ".B --negatives" in trainer
    assert ".B 7\nunsupported" in trainer
    for name in ("ckpt", "trainer"):
        assert f"_{name.upper()}_COMPLETE=complete_bash" in pages[f"completions/{name}.bash"]
        (tmp_path / name).write_text(pages[f"man/man1/{name}.1"])
        if shutil.which("groff"):
            done = subprocess.run(["groff", "-man", "-ww", "-z", tmp_path / name], capture_output=True, check=False)
            assert (done.returncode, done.stderr) == (0, b"")


def toml() -> ModuleType:
    return import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def test_a_release_has_the_addresses_of_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(sys, "argv", ["set_urls.py", "https://example.org/somebody/ckpt-tools", str(tmp_path)])
    set_urls.main()
    set_urls.main()
    project = toml().loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Issues"] == "https://example.org/somebody/ckpt-tools/issues"
    assert yaml.safe_load((tmp_path / "CITATION.cff").read_text())["repository-code"].endswith("/ckpt-tools")


WORKFLOWS = [*sorted(ROOT.glob(".github/**/*.yml")), ROOT / "action.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_code_host_reads_is_whole(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    for job in document.get("jobs", {}).values():
        assert all({"run", "uses"} & step.keys() for step in job["steps"])


def test_the_version_is_the_same_everywhere() -> None:
    from ckpt_tools.version import __version__

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]" or headings[0].startswith(f"## [{__version__}] - ")
