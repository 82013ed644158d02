"""The pages of ``ckpt report``: what they say, and how they behave in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page
from checkpoints import EXPERIMENTS, FIXTURES, OF_EACH_LINEAGE, Sample, build_bundle, pick, snapshot

from ckpt_tools.analysis.page_contents import run_contents
from ckpt_tools.cli import run
from ckpt_tools.report import RunContents, ShelfContents, contents

Copy = Callable[..., Path]
SAMPLE = pick("tf2.21", "ComiRec-DR")
SHELF = FIXTURES / "experiments"


class TestContents:
    def test_of_a_run(self) -> None:
        found = run_contents(str(SAMPLE.path))
        best = found.evidence.best
        assert best is not None
        assert best.recall == pytest.approx(SAMPLE.best_recall, abs=1e-6)
        assert found.outlook is not None
        assert {h.name for h in found.histograms} >= {"model/item_embedding", "model/capsule/weights"}
        embedding = next(h for h in found.histograms if h.name == "model/item_embedding")
        assert sum(embedding.counts) == np.prod(
            next(t.shape for t in found.inspection.tensors if t.canonical == "model/item_embedding")
        )
        assert all(band.low <= band.middle <= band.high for band in found.norms)
        assert found.norms[0].first == 1
        assert not found.curve.resumes

    def test_what_is_meant_by_a_path(self, copy: Copy, tmp_path: Path) -> None:
        copy(SAMPLE)
        # A directory with one run in it is about that run.
        for path in (SAMPLE.path, SAMPLE.full_prefix, tmp_path):
            assert isinstance(contents(str(path)), RunContents)
        copy(pick("tf2.10"))
        for path in (tmp_path, SHELF):
            assert isinstance(contents(str(path)), ShelfContents)

    def test_resumes(self, copy: Copy, tmp_path: Path) -> None:
        experiment = copy(SAMPLE, logs=False)
        logs = tmp_path / "root" / "runs" / experiment.name
        logs.mkdir(parents=True)
        rows = [("eval", 50), ("eval", 100), ("resume", 100), ("eval", 150)]
        lines = [json.dumps({"event": event, "step": step, "loss": 1.5, "recall": step / 1000}) for event, step in rows]
        (logs / "metrics.jsonl").write_text("\n".join(lines))
        assert run_contents(str(experiment)).curve.resumes == (1,)
        # Without the word of the trainer: a count that begins again.
        lines = [line.replace('"step": 150', '"step": 50') for line in lines if "resume" not in line]
        (logs / "metrics.jsonl").write_text("\n".join(lines))
        assert run_contents(str(experiment)).curve.resumes == (2,)

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        values = np.array([1, 2, np.nan, np.inf], np.float32)
        build_bundle(tmp_path / "ckpt", {"w": values, "gone": np.full(3, np.nan, np.float32)})
        gone, some = run_contents(str(tmp_path / "ckpt")).histograms
        assert (some.odd, sum(some.counts)) == (2, 2)
        assert (gone.odd, gone.counts) == (3, ())

    def test_a_damaged_tensor_is_a_finding(self, copy: Copy) -> None:
        experiment = copy(SAMPLE)
        (data,) = (experiment / "keras_ckpt").glob("*.data-*")
        data.write_bytes(data.read_bytes()[:5000])
        found = run_contents(str(experiment))
        assert any(finding.severity == "damage" for finding in found.findings)


def page_of(path: Path | str, output: Path) -> str:
    assert run(["report", str(path), "-o", str(output)]) == 0
    return output.read_text()


@pytest.fixture(autouse=True)
def _needs_the_extra() -> None:
    for package in ("jinja2", "pygal"):
        pytest.importorskip(package, reason="needs the extra 'report'")


class TestCommand:
    def test_json_and_errors(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output = tmp_path / "report.html"
        assert run(["report", str(SAMPLE.path), "-o", str(output), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["written"] == str(output)
        assert document["bytes"] == output.stat().st_size
        assert run(["report", str(tmp_path / "nothing"), "-o", str(output)]) == 3
        assert run(["report", str(SAMPLE.path), "-o", str(tmp_path / "no" / "where.html")]) == 3

    def test_every_fixture_has_a_page_and_is_left_alone(self, tmp_path: Path) -> None:
        before = snapshot(FIXTURES)
        for sample in EXPERIMENTS:
            page = page_of(sample.path, tmp_path / "page.html")
            assert f"{sample.best_recall:.6f}" in page
        assert snapshot(FIXTURES) == before

    def test_pages_load_nothing(self, tmp_path: Path) -> None:
        for path in (SAMPLE.path, SHELF):
            page = page_of(path, tmp_path / "page.html")
            assert "default-src 'none'" in html.unescape(page)
            targets = re.findall(r"""\b(?:src|href)\s*=\s*["']?([^"'>\s]*)""", page)
            assert targets
            assert all(target.startswith(("data:", "#")) for target in targets)
            assert not re.search(r"url\(|@import", page)

    def test_names_are_escaped(self, tmp_path: Path) -> None:
        name = "<script>alert(1)<"
        for number in range(2):
            build_bundle(tmp_path / f"{name}{number}", {f"{name}/w": np.ones((2, 2), np.float32)})
        for path in (tmp_path, tmp_path / f"{name}0"):
            page = page_of(path, tmp_path / "page.html")
            assert name not in page
            assert "&lt;script&gt;alert(1)&lt;" in page

    def test_a_shelf_stays_small(self, tmp_path: Path) -> None:
        assert len(page_of(SHELF, tmp_path / "page.html")) < 10_000 + 4_000 * len(EXPERIMENTS)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all experiments and a damaged one."""
    root = tmp_path_factory.mktemp("shelf")
    shutil.copytree(SHELF, root / "experiments")
    broken = root / "experiments" / pick("tf2.10").prefix
    broken.with_name(f"{broken.name}.index").write_bytes(b"no index")
    page_of(root / "experiments", root / "shelf.html")
    return root / "shelf.html"


@pytest.fixture
def page(require_tool: Callable[..., str], tmp_path: Path) -> Iterator[Page]:
    with Page(require_tool("chromium"), tmp_path / "profile") as opened:
        yield opened


_SHOWN = "Array.from(document.querySelectorAll('#shelf tbody tr')).filter(row => !row.hidden)"
_COUNT = "document.getElementById('count').textContent"


def choose(page: Page, name: str, value: str) -> None:
    page.ask(
        f"{{const field = document.querySelector('[name={name}]'); field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true}))}"
    )


class TestShelfInABrowser:
    def test_filters(self, page: Page, shelf: Path) -> None:
        page.open(shelf)
        total = len(EXPERIMENTS)
        assert page.ask(f"{_SHOWN}.length") == total
        choose(page, "model", "ComiRec-DR")
        drs = sum(sample.model_type == "ComiRec-DR" for sample in EXPERIMENTS)
        assert page.ask(f"{_SHOWN}.length") == drs
        assert page.ask(_COUNT) == f"{drs} of {total} runs"
        choose(page, "model", "")
        choose(page, "health", "damaged")
        assert page.ask(f"{_SHOWN}.length") == 1
        choose(page, "health", "")
        choose(page, "text", "TF1.15")
        assert page.ask(f"{_SHOWN}.length") == sum(sample.root == "tf1.15" for sample in EXPERIMENTS)
        choose(page, "text", "nothing is called so")
        assert page.ask(_COUNT) == f"0 of {total} runs"
        assert page.problems == []
        assert page.requests == [shelf.as_uri()]

    def test_sorts_with_what_is_not_known_last(self, page: Page, shelf: Path) -> None:
        page.open(shelf)
        column = (
            "Array.from(document.querySelectorAll('#shelf thead th')).findIndex(th => th.innerText.includes('stored'))"
        )
        values = f"{_SHOWN}.map(row => row.cells[{column}].dataset.value)"
        button = f"document.querySelectorAll('#shelf thead th')[{column}].querySelector('button')"
        for order in ("ascending", "descending"):
            page.ask(f"{button}.click()")
            found = page.ask(values)
            known = [float(value) for value in found if value]
            assert known == sorted(known, reverse=order == "descending")
            assert found[: len(known)] == [value for value in found if value]
            assert page.ask(f"{button}.closest('th').getAttribute('aria-sort')") == order
        assert page.problems == []

    def test_by_keyboard(self, page: Page, shelf: Path) -> None:
        page.open(shelf)
        for _ in range(30):
            page.press("Tab", 9)
            if page.ask("document.activeElement.textContent") == "step":
                break
        assert page.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.press("Enter", 13, "\r")
        column = page.ask("document.activeElement.closest('th').cellIndex")
        steps = [float(value) for value in page.ask(f"{_SHOWN}.map(row => row.cells[{column}].dataset.value)") if value]
        assert steps == sorted(steps)
        assert page.ask("document.activeElement.textContent") == "step"

    def test_for_a_screen_reader(self, page: Page, shelf: Path) -> None:
        page.open(shelf)
        tree = page.tree()
        controls = [
            (role, name) for role, name in tree if role in ("button", "combobox", "searchbox", "image", "search")
        ]
        assert [role for role, name in controls if not name] == []
        roles = {role for role, _ in tree}
        assert {"main", "search", "table", "columnheader", "rowheader", "heading", "status"} <= roles


# Graduations of a vertical axis whose labels share a part of their heights.
_OVERLAPPING = """[...document.querySelectorAll('.axis.y')].flatMap(axis => {
  const boxes = [...axis.querySelectorAll('text')].map(text => text.getBoundingClientRect());
  boxes.sort((a, b) => a.top - b.top);
  return boxes.slice(1).filter((box, n) => box.top < boxes[n].bottom - 1).map(box => box.top);
})"""
_TEXTS = "Array.from(document.querySelectorAll('figure svg text'))"
# The words of a chart that stick out of it, and the names in a treemap that stick out of their tiles.
_CLIPPED = """
Array.from(document.querySelectorAll("figure svg")).flatMap((svg) => {
  const tiles = Array.from(svg.querySelectorAll("rect.reactive")).map((tile) => tile.getBoundingClientRect());
  const within = (inner, outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1
    && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
  return Array.from(svg.querySelectorAll("text")).filter((text) => {
    const box = text.getBoundingClientRect();
    const places = text.classList.contains("label") ? tiles : [svg.getBoundingClientRect()];
    return !places.some((place) => within(box, place));
  }).map((text) => text.textContent);
})
"""


class TestRunInABrowser:
    def test_opens_in_light_and_dark(self, page: Page, tmp_path: Path) -> None:
        output = tmp_path / "run.html"
        page_of(SAMPLE.path, output)
        colours = set()
        for scheme in ("light", "dark"):
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            page.open(output)
            colours.add(
                page.ask("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color")
            )
            assert page.ask("document.querySelectorAll('figure svg').length") >= 5
            assert page.ask("document.documentElement.scrollWidth <= innerWidth")
        assert len(colours) == 2
        assert page.problems == []
        assert set(page.requests) == {output.as_uri()}

    @pytest.mark.parametrize("sample", [*OF_EACH_LINEAGE, SAMPLE], ids=lambda sample: sample.id)
    def test_no_word_is_clipped(self, page: Page, tmp_path: Path, sample: Sample) -> None:
        output = tmp_path / "run.html"
        page_of(sample.path, output)
        for width in (1300, 390):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            page.open(output)
            assert page.ask(_CLIPPED) == []
            assert page.ask("document.documentElement.scrollWidth <= innerWidth")
            # Smaller than this nobody reads it.
            assert page.ask(f"Math.min(...{_TEXTS}.map(text => text.getBoundingClientRect().height))") > 9
        labels = page.ask(f"{_TEXTS}.filter(text => text.classList.contains('label')).map(text => text.textContent)")
        assert "item_embedding" in labels

    def test_labels_of_an_axis_do_not_run_into_each_other(self, page: Page, tmp_path: Path) -> None:
        output = tmp_path / "run.html"
        page_of(SAMPLE.path, output)
        page.open(output)
        assert page.ask("document.querySelectorAll('.axis.y').length") >= 3
        assert page.ask(_OVERLAPPING) == []

    def test_a_chart_has_no_title_of_its_maker(self, tmp_path: Path) -> None:
        assert "pygal" not in re.sub(r"pygal-chart", "", page_of(SAMPLE.path, tmp_path / "run.html")).lower()

    def test_charts_have_names_and_tables(self, page: Page, tmp_path: Path) -> None:
        output = tmp_path / "run.html"
        page_of(SAMPLE.path, output)
        page.open(output)
        images = [name for role, name in page.tree() if role == "image"]
        assert len(images) >= 5
        assert all(images)
        page.ask("document.querySelectorAll('details').forEach(part => { part.open = true })")
        assert page.ask("document.querySelectorAll('td').length") > 50
