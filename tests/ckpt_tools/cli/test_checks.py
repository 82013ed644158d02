"""Several checkpoints in one call, and the reports that continuous integration reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from checkpoints import Sample, build_bundle, pick

WITHOUT, WITH = pick("tf2.21"), pick("tf2.21", with_best=True)
Copy = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def whole(copy: Copy) -> Path:
    return copy(WITH)


@pytest.fixture
def torn(copy: Copy) -> Path:
    """A copy with a bit of its data flipped."""
    experiment = copy(WITHOUT, root="torn place")
    data = Path(f"{WITHOUT.prefix_in(experiment)}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[20000] ^= 1
    data.write_bytes(content)
    return experiment


def relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def cases(path: Path) -> dict[str, ElementTree.Element]:
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    (suite,) = root
    found = {case.attrib["name"]: case for case in suite}
    for counter, tag in (("tests", "."), ("failures", "failure"), ("errors", "error")):
        number = sum(case.find(tag) is not None for case in found.values())
        assert root.get(counter) == suite.get(counter) == str(number)
    return found


def results(path: Path) -> list[dict[str, Any]]:
    """The results of a log that has what the standard and code hosts ask for."""
    log = json.loads(path.read_text("ascii"))
    assert log["version"] == "2.1.0"
    assert "sarif-2.1.0" in log["$schema"]
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert all(rule["shortDescription"]["text"] for rule in rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error")
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["region"]["startLine"] == 1
        assert location["physicalLocation"]["artifactLocation"]["uri"]
        assert len(result["partialFingerprints"]["primaryLocationLineHash"]) == 32
    return run["results"]


def uri(result: dict[str, Any]) -> str:
    return result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


class TestSeveralPaths:
    def test_one_that_is_damaged_does_not_hide_the_others(self, ckpt: Callable, whole: Path, torn: Path) -> None:
        answer = ckpt("verify", torn, "nowhere", whole)
        assert answer.code == 1
        assert answer.out.count("✗ ") == answer.out.count("✓ ") == 1
        assert "nowhere" in answer.err
        document = ckpt("verify", torn, "nowhere", whole, "--json").json
        assert [result["path"] for result in document["results"]] == [str(torn), "nowhere", str(whole)]
        assert [result.get("whole") for result in document["results"]] == [False, None, True]
        assert [finding["id"] for finding in document["findings"]] == ["corrupt", "not-found"]

    def test_of_whole_ones_nothing_is_wrong(self, ckpt: Callable, whole: Path, copy: Copy) -> None:
        other = copy(WITHOUT)
        assert ckpt("verify", whole, other).code == 0
        assert ckpt("verify", whole, other, "--quiet").out == ""

    def test_files_of_one_checkpoint_count_once(self, ckpt: Callable, whole: Path, torn: Path) -> None:
        files = [file for experiment in (whole, torn) for file in sorted(experiment.glob("keras_ckpt/ckpt-*"))]
        assert len(files) == 4
        answer = ckpt("verify", *files, "--json")
        assert answer.code == 1
        assert [result["path"] for result in answer.json["results"]] == [WITH.prefix_in(whole), WITHOUT.prefix_in(torn)]

    def test_one_path_answers_as_ever(self, ckpt: Callable, whole: Path) -> None:
        assert ckpt("verify", whole, "--json").json["whole"]
        assert ckpt("resume-check", whole, "--json").json["verdict"] == "safe"

    def test_resume_check_says_which_is_not_safe(self, ckpt: Callable, whole: Path, copy: Copy) -> None:
        risky = copy(WITHOUT)
        answer = ckpt("resume-check", whole, risky, "--quiet")
        assert answer.code == 1
        assert risky.name in answer.out
        assert whole.name not in answer.out


class TestReports:
    def test_junit(self, ckpt: Callable, whole: Path, torn: Path, tmp_path: Path) -> None:
        assert ckpt("verify", whole, torn, "nowhere", "--junit", "out.xml").code == 1
        found = cases(tmp_path / "out.xml")
        assert list(found) == [str(whole), str(torn), "nowhere"]
        assert [child.tag for case in found.values() for child in case] == ["failure", "error"]
        (failure,) = found[str(torn)]
        assert failure.attrib == {"message": "checksum does not match", "type": "corrupt"}
        assert "ckpt-3.data-00000-of-00001: at byte" in (failure.text or "")

    def test_sarif(self, ckpt: Callable, whole: Path, torn: Path, tmp_path: Path) -> None:
        assert ckpt("verify", whole, torn, "--sarif", "out.sarif").code == 1
        (result,) = results(tmp_path / "out.sarif")
        assert (result["ruleId"], result["level"]) == ("corrupt", "error")
        # Relative to where the command runs, with the blank of the folder escaped.
        assert uri(result).startswith("torn%20place/best_model/")
        assert uri(result).endswith("/keras_ckpt/ckpt-3.data-00000-of-00001")
        (location,) = result["locations"]
        assert location["logicalLocations"][0]["fullyQualifiedName"].startswith("model/")
        assert location["physicalLocation"]["region"]["byteOffset"] > 0

    def test_a_result_is_known_again_wherever_the_tree_lies(
        self, ckpt: Callable, torn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ckpt("verify", "torn place/best_model/" + torn.name, "--sarif", "out.sarif")
        (first,) = results(tmp_path / "out.sarif")
        shutil.copytree(tmp_path / "torn place", tmp_path / "clone" / "torn place")
        monkeypatch.chdir(tmp_path / "clone")
        ckpt("verify", "torn place/best_model/" + torn.name, "--sarif", "out.sarif")
        assert results(tmp_path / "clone" / "out.sarif") == [first]

    def test_a_missing_best_metric_fails(self, ckpt: Callable, whole: Path, copy: Copy, tmp_path: Path) -> None:
        risky = copy(WITHOUT)
        assert ckpt("resume-check", whole, risky, "--junit", "out.xml", "--sarif", "out.sarif").code == 1
        assert [case.find("failure") is None for case in cases(tmp_path / "out.xml").values()] == [True, False]
        (result,) = results(tmp_path / "out.sarif")
        assert result["ruleId"] == "best-metric-absent"
        assert uri(result) == relative(Path(f"{WITHOUT.prefix_in(risky)}.index"), tmp_path)
        assert "ckpt backfill" in result["message"]["text"]

    def test_whatever_is_not_safe_has_a_reason(self, ckpt: Callable, tmp_path: Path) -> None:
        foreign = build_bundle(tmp_path / "foreign", {"w": np.zeros(3)})
        assert ckpt("resume-check", foreign, "--sarif", "out.sarif").code == 1
        assert [result["ruleId"] for result in results(tmp_path / "out.sarif")] == ["resume-blocked"]

    def test_audit(self, ckpt: Callable, whole: Path, torn: Path, tmp_path: Path) -> None:
        assert ckpt("audit", ".", "--verify", "--junit", "out.xml", "--sarif", "out.sarif").code == 1
        found = cases(tmp_path / "out.xml")
        names = [relative(experiment, tmp_path) for experiment in (whole, torn)]
        assert sorted(found) == sorted(names)
        assert found[names[1]].find("failure") is not None
        assert [result["ruleId"] for result in results(tmp_path / "out.sarif")] == ["damaged-run"]

    def test_of_whole_ones_the_log_is_empty(self, ckpt: Callable, whole: Path, tmp_path: Path) -> None:
        assert ckpt("verify", whole, "--junit", "out.xml", "--sarif", "out.sarif").code == 0
        assert results(tmp_path / "out.sarif") == []
        assert list(cases(tmp_path / "out.xml")) == [str(whole)]

    def test_what_cannot_be_opened_is_reported_before_it_ends(self, ckpt: Callable, tmp_path: Path) -> None:
        assert ckpt("verify", tmp_path / "nowhere", "--junit", tmp_path / "out.xml").code == 3
        (case,) = cases(tmp_path / "out.xml").values()
        assert [child.tag for child in case] == ["error"]

    def test_names_may_be_anything(self, ckpt: Callable, tmp_path: Path) -> None:
        odd = tmp_path / "odd \x1b[31m\udcff é < &.keras"
        odd.write_bytes(b"none")
        ckpt("verify", odd, "--junit", tmp_path / "out.xml", "--sarif", tmp_path / "out.sarif")
        (name,) = cases(tmp_path / "out.xml")
        assert "\\x1b[31m\\udcff é < &" in name
        (result,) = results(tmp_path / "out.sarif")
        assert "%1B%5B31m%FF%20%C3%A9%20%3C%20%26.keras" in uri(result)

    def test_nothing_but_a_file_is_replaced(self, ckpt: Callable, whole: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "target")
        assert ckpt("verify", whole, "--junit", "link").code == 4
        assert ckpt("verify", whole, "--sarif", "nowhere/out.sarif").code == 3
        assert (tmp_path / "link").is_symlink()


def test_a_lineage_that_cannot_go_on_is_told_apart(ckpt: Callable, sample: Sample, tmp_path: Path) -> None:
    answer = ckpt("resume-check", sample.path, "--junit", tmp_path / "out.xml")
    (case,) = cases(tmp_path / "out.xml").values()
    assert (case.find("failure") is None) == (answer.code == 0) == sample.has_best_metric
