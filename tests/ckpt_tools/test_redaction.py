"""No password and no signature of a URL is ever shown or written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from checkpoints import build_bundle
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools import redaction
from ckpt_tools.cli import run
from ckpt_tools.console.documents import write_text
from ckpt_tools.console.output import Output
from ckpt_tools.errors import NotFoundError, UnsafeError
from ckpt_tools.redaction import redacted, remember, without_secrets

# A mark that stands for the secret, in the middle of whatever people type.
MARK = "XyZZy"
ANYTHING = st.text(st.sampled_from("ab1 @:'\"`;,!$&()*+=[]{}|^~%.-_\\\t\u00e9\u202e<>"), max_size=12)
SCHEMES = st.sampled_from(["http", "https", "s3", "gs", "hdfs", "HTTPS", "abfs+x"])
PLACES = st.sampled_from(["host", "host:8080", "127.0.0.1:1", "bucket", "[::1]:80"])


@given(SCHEMES, ANYTHING, ANYTHING, ANYTHING, PLACES, st.sampled_from(["/m", "/a@b/m.index", ""]))
def test_passwords(scheme: str, user: str, one: str, two: str, place: str, path: str) -> None:
    secret = f"{user}:{one}{MARK}{two}"
    url = f"{scheme}://{secret}@{place}{path}"
    if any(character.isspace() for character in secret):
        # A text does not tell where this one ends, the argument does.
        remember(url)
    for text in (url, f"cannot read {url}: gone", f"next: ckpt inspect {shlex.quote(url)}", f"{url!r}", f"{url}.index"):
        assert MARK not in without_secrets(text)
    assert without_secrets(f"see {url}").endswith(f"://{place}{path}")


@given(SCHEMES, PLACES, ANYTHING, ANYTHING)
def test_signatures(scheme: str, place: str, one: str, two: str) -> None:
    url = f"{scheme}://{place}/m.h5?sig={one}{MARK}{two}"
    if any(character.isspace() for character in url):
        remember(url)
    for text in (url, f"cannot read {url}: gone", f"ckpt inspect {shlex.quote(url)} --json", f"{url!r}"):
        assert MARK not in without_secrets(text)
        assert "/m.h5?..." in without_secrets(text)


@given(ANYTHING.filter(lambda text: "@" not in text), st.sampled_from("/?#"), ANYTHING)
def test_signs_that_have_no_business_in_a_password(one: str, sign: str, two: str) -> None:
    url = f"https://user:p{one}{sign}{MARK}{two}@host/m"
    remember(url)
    assert MARK not in without_secrets(f"at {url}")


@given(ANYTHING)
def test_escaped_ones(secret: str) -> None:
    url = f"https://user:{quote(secret + MARK, safe='')}@host/m?x={quote(MARK, safe='')}"
    assert without_secrets(f"a {url} b") == "a https://host/m?... b"


def test_what_is_no_secret_stays() -> None:
    for text in [
        "no URL, but a@b and x?y=z",
        "s3://bucket/a@b/c@1.index",
        "https://host:8080/a@b",
        "http://[::1]:80/a@b",
        "C:\\data\\m.ckpt://",
        "https://host/m, https://host/n.",
    ]:
        assert without_secrets(text) == text
    assert without_secrets("https://h/m?...") == "https://h/m?..."


def test_lists_and_mappings() -> None:
    url = f"https://u:{MARK}@h/m?{MARK}"
    value = {"a": [url, {url: (url, 1, None)}], "b": 2.5}
    assert redacted(value) == {"a": ["https://h/m?...", {"https://h/m?...": ["https://h/m?...", 1, None]}], "b": 2.5}


def test_a_json_text_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    Output("inspect", 'http://u:p","x@h/m', json=True, quiet=False).document({"a": "b@c", "d": "http://h"})
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == "http://h/m"
    assert (document["a"], document["d"]) == ("b@c", "http://h")


def test_errors_and_bugs_keep_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://u:{MARK}@h/m"
    error = NotFoundError(f"gone: {url}", path=url, hint=f"ckpt inspect {url}")
    assert MARK not in f"{error} {error.message} {error.hint}"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(url)

    monkeypatch.setattr("ckpt_tools.cli.commands.inspect.ask", fail)
    assert run(["inspect", url]) == 70
    assert MARK not in "".join(capsys.readouterr())
    assert run(["inspect", url, url]) == 2
    assert MARK not in "".join(capsys.readouterr())


def test_nothing_is_remembered_of_paths() -> None:
    redaction._known.clear()
    remember("/a b/c@d?e=f")
    remember("--data=plain")
    assert not redaction._known


# ------------------------------------------------------------------------- what else comes from names of files


@pytest.mark.parametrize("name", ["=1+1", "+1+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "\t=x", "＝x", "a\nb", "\x1b[31m"])
def test_cells_are_harmless(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Output("audit", ".", json=False, quiet=False).csv(["a", "b"], [{"a": name, "b": -1.5}])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    cell, number = said.splitlines()[1].rsplit(",", 1)
    assert not cell.strip('"').lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert number == "-1.5"


def test_options_from_the_names_of_files_write_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.ones(3, np.float32)})
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for target in ("new.h5", "new.index", "m.data-00000-of-00001", "checkpoint", "victim"):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        for option in ("--sarif", "--junit"):
            assert run(["verify", f"{prefix}.index", f"{option}={tmp_path / target}"]) == UnsafeError.exit_code
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    capsys.readouterr()
    for content in ("", "{}", "\n<a/>"):
        (tmp_path / "old").write_text(content)
        write_text(str(tmp_path / "old"), "{}")


def test_hooks_end_their_options() -> None:
    hooks = (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text().split("- id: ")[1:]
    passing = [hook for hook in hooks if "pass_filenames: false" not in hook]
    assert len(passing) == 2
    assert all("args: [--]\n" in hook for hook in passing)


def test_behind_two_hyphens_everything_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build_bundle(tmp_path / "--sarif=x", {"v": np.ones(3, np.float32)})
    assert run(["verify", "--", "--sarif=x.index"]) == 0
    assert not (tmp_path / "x.index").exists()


def test_an_argument_that_holds_a_byte_of_no_character(capsys: pytest.CaptureFixture[str]) -> None:
    """As the system hands it on, and as no system can."""
    for odd in ("\udc80", "\ud800"):
        url = f"https://user:{odd}{MARK}@host/m"
        assert run(["inspect", url]) != 70
        remember(url)
        assert MARK not in without_secrets(f"at {url}")
    assert MARK not in "".join(capsys.readouterr())
