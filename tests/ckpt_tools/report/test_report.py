"""The pages of ``ckpt report``: what they say, and how they behave in a browser."""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from browser import Page
from checkpoints import EXPERIMENTS, FIXTURES, OF_EACH_LINEAGE, Sample, build_bundle, pick, snapshot
from growing import steps

import ckpt_tools
from ckpt_tools.analysis.page_contents import run_contents
from ckpt_tools.cli import run
from ckpt_tools.report import RunContents, ShelfContents, contents, figures, page_name
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.evaluations import LoggedEvaluation

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


def page_of(path: Path | str, output: Path, code: int = 0) -> str:
    assert run(["report", str(path), "-o", str(output)]) == code
    return output.read_text()


@pytest.fixture(autouse=True)
def _needs_the_extra() -> None:
    pytest.importorskip("jinja2", reason="needs the extra 'report'")


class TestCommand:
    def test_the_rows_of_a_log_cost_what_they_are(self, tmp_path: Path) -> None:
        def of(count: int) -> Callable[[], object]:
            place = tmp_path / str(count)
            place.mkdir()
            prefix = build_bundle(place / "m-3", {"a": np.ones(2, np.float32), "global_step": np.int64(3)})
            rows = (f"step {step} auc: {0.3 + step % 700 / 1000}\n" for step in range(1, count + 1))
            (place / "train.log").write_text("".join(rows))
            (place / "ckpt.toml").write_text('[layout]\nbest = "m-3"\nlogs = "*.log"\n[metric]\nname = "auc"\n')
            pages = itertools.count()

            def report() -> None:
                assert run(["report", prefix, "-o", str(place / f"page-{next(pages)}.html"), "-q"]) == 1, "at risk"

            return report

        assert steps(of, (200, 400, 800)) < 1.05

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
        assert len(page_of(SHELF, tmp_path / "page.html")) < 90_000 + 3_500 * len(EXPERIMENTS)

    def test_a_damaged_run_has_a_page_and_exit_code_1(
        self, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        experiment = copy(SAMPLE)
        (data,) = (experiment / "keras_ckpt").glob("*.data-*")
        data.write_bytes(data.read_bytes()[:5000])
        output = tmp_path / "page.html"
        assert run(["report", str(experiment), "-o", str(output), "--json"]) == 1
        assert any(finding["severity"] == "damage" for finding in json.loads(capsys.readouterr().out)["findings"])
        assert "cut off" in output.read_text()
        assert f"{SAMPLE.best_recall:.6f}" in output.read_text()
        # Nor is one left out whose index says nothing any more: its log and its ledger still do.
        next((experiment / "keras_ckpt").glob("*.index")).write_bytes(b"no index")
        assert run(["report", str(experiment), "-o", str(output)]) == 1
        page = output.read_text()
        assert "it cannot be opened" in page
        assert f"{SAMPLE.best_recall:.6f}" in page

    def test_what_was_changed_is_told(self, copy: Copy, tmp_path: Path) -> None:
        experiment = copy(SAMPLE)
        assert run(["backfill", str(experiment), "--from-logs", "--quiet"]) == 0
        assert run(["undo", str(experiment), "--quiet"]) == 0
        whats = [event.what for event in run_contents(str(experiment)).events]
        assert whats == ["trained", "backfill, taken back later", "undo"]
        page = page_of(experiment, tmp_path / "page.html")
        assert "best_metric = 0.09149" in page
        assert " UTC</time>" in page

    def test_a_ledger_that_cannot_be_read_is_a_finding(self, copy: Copy) -> None:
        experiment = copy(SAMPLE)
        state = experiment / "keras_ckpt" / ".ckpt-tools"
        state.mkdir()
        (state / "ledger.jsonl").write_text("no json\n{}\n")
        assert any("ledger" in finding.message for finding in run_contents(str(experiment)).findings)

    def test_pages_of_all_runs_lead_to_each_other(self, copy: Copy, tmp_path: Path) -> None:
        copy(SAMPLE)
        copy(pick("tf2.10"))
        pages = tmp_path / "pages"
        assert run(["report", str(tmp_path / "root"), "-o", f"{pages}/"]) == 0
        home = (pages / "index.html").read_text()
        links = re.findall(r'<a href="([^"#]+)"', home)
        assert len(links) == 2
        for link in links:
            assert '<a href="index.html">' in (pages / link).read_text()
        # Again, into what is there.
        assert run(["report", str(tmp_path / "root"), "-o", str(pages)]) == 0
        assert len(list(pages.iterdir())) == 3

    def test_names_of_pages_are_safe_and_differ(self) -> None:
        names = [page_name(path) for path in ("a/b", "a-b", "../x", "..", "\udc80", "é" * 300, "a\nb", "")]
        assert len({*names}) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,100}\.html", name) and name[0] not in ".-" for name in names)

    def test_a_name_by_itself_and_a_browser(self, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []
        monkeypatch.setattr("webbrowser.open", opened.append)
        monkeypatch.chdir(tmp_path)
        experiment = copy(SAMPLE)
        assert run(["report", str(experiment), "--open"]) == 0
        page = tmp_path / f"{experiment.name}.report.html"
        assert opened == [page.as_uri()]
        assert run(["report", "."]) == 0
        assert (tmp_path / f"{tmp_path.name}.report.html").exists()

    def test_in_chinese(self, tmp_path: Path) -> None:
        output = tmp_path / "page.html"
        assert run(["report", str(SAMPLE.path), "-o", str(output), "--lang", "zh"]) == 0
        page = output.read_text()
        assert '<html lang="zh">' in page
        assert "来历" in page
        assert "Where it comes from" not in page


class TestFigures:
    """What a browser is given to draw can be drawn: it has no time limit."""

    def test_numbers_that_no_scale_reaches(self) -> None:
        assert figures.drawn(float("nan")) is None
        assert figures.drawn(-1e300) is None
        assert figures.drawn(5e-324) == 0.0
        assert figures.drawn(0.1 + 1e-12) == 0.1

    def test_of_a_long_history_the_best_and_the_resumes_stay(self) -> None:
        points = [
            LoggedEvaluation(step, None, 0.9 if step == 1234 else 0.5, None, None, "log") for step in range(30_000)
        ]
        curve = Curve(tuple(points), (777, 29_999))
        kept = figures.kept(curve)
        assert len(kept) < 3000
        assert {0, 777, 1234, 29_999} <= {*kept}
        assert kept == sorted(kept)
        (panel,) = figures.curve_panels(curve)
        assert panel.figure["best"]["x"] == 1234
        assert panel.figure["resumes"] == [777, 29_999]
        assert len(figures.overlaid(curve)["x"]) < 200

    def test_steps_beyond_all_floats(self) -> None:
        points = tuple(LoggedEvaluation(10**400 + n, 1.0, 0.5, None, None, "log") for n in range(3))
        assert figures.curve_panels(Curve(points))[0].figure["x"] == [1e18] * 3

    def test_a_line_as_high_as_a_line_of_text(self) -> None:
        assert figures.sparkline([]) == ""
        assert figures.sparkline([0.5]) == "2.0,22.0"
        assert figures.sparkline([0.0, 1.0]) == "2.0,22.0 108.0,2.0"


def test_the_library_of_the_charts_is_the_one_that_was_published() -> None:
    vendor = Path(ckpt_tools.__file__).parent / "report" / "vendor" / "uplot"
    digest = hashlib.sha256((vendor / "uPlot.iife.min.js").read_bytes()).hexdigest()
    assert digest == "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
    assert "The MIT License" in (vendor / "LICENSE").read_text()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all experiments and a damaged one."""
    root = tmp_path_factory.mktemp("shelf")
    shutil.copytree(SHELF, root / "experiments")
    broken = root / "experiments" / pick("tf2.10").prefix
    broken.with_name(f"{broken.name}.index").write_bytes(b"no index")
    page_of(root / "experiments", root / "shelf.html", code=1)
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
        assert page.ask(_COUNT) == f"shown: {drs} of {total}"
        choose(page, "model", "")
        choose(page, "health", "damaged")
        assert page.ask(f"{_SHOWN}.length") == 1
        choose(page, "health", "")
        choose(page, "text", "TF1.15")
        assert page.ask(f"{_SHOWN}.length") == sum(sample.root == "tf1.15" for sample in EXPERIMENTS)
        choose(page, "text", "nothing is called so")
        assert page.ask(_COUNT) == f"shown: 0 of {total}"
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


def at(page: Page, width: int, scheme: str = "light") -> None:
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)


# What lies beyond the right edge, but for what may be scrolled by itself.
_BEYOND = """[...document.querySelectorAll("body *")].filter((each) =>
  !each.closest(".scroll:not(.tall)") && !each.closest(".skip") && each.getBoundingClientRect().right > innerWidth + 1
).map((each) => each.outerHTML.slice(0, 80))"""
# How much of each chart is painted.
_PAINTED = """[...document.querySelectorAll("canvas")].map((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((sum, value, n) => sum + (n % 4 === 3 && value > 0), 0) / (canvas.width * canvas.height);
})"""
WIDTHS = (500, 900, 1400)


def drawn(page: Page) -> None:
    """A picture later: uPlot paints in its own time."""
    page.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one run."""
    output = tmp_path_factory.mktemp("report") / "run.html"
    page_of(SAMPLE.path, output)
    return output


class TestRunInABrowser:
    @pytest.mark.slow
    def test_fits_in_light_and_dark(self, page: Page, report: Path, shelf: Path) -> None:
        for path, charts in ((report, 5), (shelf, 1)):
            colours = set()
            for scheme in ("light", "dark"):
                for width in WIDTHS:
                    at(page, width, scheme)
                    page.open(path)
                    drawn(page)
                    assert page.ask(_BEYOND) == []
                    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
                    painted = page.ask(_PAINTED)
                    assert len(painted) >= charts
                    assert min(painted) > 0.003
                colours.add(
                    page.ask("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color")
                )
            assert len(colours) == 2
        assert page.problems == []
        assert {*page.requests} == {report.as_uri(), shelf.as_uri()}

    def test_fits(self, page: Page, report: Path, shelf: Path) -> None:
        for path in (report, shelf):
            at(page, 500)
            page.open(path)
            drawn(page)
            assert page.ask(_BEYOND) == []
            assert min(page.ask(_PAINTED)) > 0.003

    def test_charts_follow_the_width(self, page: Page, report: Path) -> None:
        at(page, 1400)
        page.open(report)
        at(page, 600)
        drawn(page)
        drawn(page)
        assert page.ask("Math.max(...[...document.querySelectorAll('canvas')].map((each) => each.clientWidth))") < 600

    def test_charts_have_names_and_tables(self, page: Page, report: Path) -> None:
        page.open(report)
        images = [name for role, name in page.tree() if role == "image"]
        assert len(images) >= 5
        assert all(images)
        page.ask("document.querySelectorAll('details').forEach(part => { part.open = true })")
        assert page.ask("document.querySelectorAll('td').length") > 50

    def test_any_numbers_are_drawn(self, page: Page, copy: Copy, tmp_path: Path) -> None:
        experiment = copy(SAMPLE, logs=False)
        logs = tmp_path / "root" / "runs" / experiment.name
        logs.mkdir(parents=True)
        odd = [0.1, 0.1 + 1e-17, 1e-300, 0.3, 1.0, 0.0]
        rows = [
            {"event": "eval", "step": 10**17 + n, "loss": loss, "recall": recall}
            for n, (recall, loss) in enumerate(zip(odd, (1e308, -1e308, 1e-320, 1e29, -1e29, 0.0), strict=True))
        ]
        (logs / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
        output = tmp_path / "odd.html"
        page_of(experiment, output)
        page.open(output)
        drawn(page)
        assert len(page.ask(_PAINTED)) >= 5
        assert page.problems == []

    def test_curves_over_each_other(self, page: Page, shelf: Path) -> None:
        page.open(shelf)
        labels = "[...document.querySelectorAll('.u-legend .u-series')].length - 1"
        assert page.ask(labels) == 5
        page.ask("document.querySelector('input[data-run]:not(:checked)').click()")
        assert page.ask(labels) == 6
        page.ask("document.querySelectorAll('input[data-run]:checked').forEach((box) => box.click())")
        assert page.ask(labels) == 0
        assert page.problems == []

    @pytest.mark.slow
    @pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
    def test_axe_finds_nothing_in_a_run(self, page: Page, tmp_path: Path, sample: Sample) -> None:
        page_of(sample.path, tmp_path / "run.html")
        assert violations(page, tmp_path / "run.html") == []

    @pytest.mark.slow
    def test_axe_finds_nothing_in_a_shelf(self, page: Page, shelf: Path) -> None:
        assert violations(page, shelf) == []


def violations(page: Page, path: Path) -> list[str]:
    """What axe-core calls wrong with a page at two widths, in light and dark."""
    axe = pytest.importorskip("axe_core_python", reason="needs axe-core, of the extra 'dev'")
    script = resources.files(axe).joinpath("axe.min.js").read_text("utf-8")
    found = []
    for scheme in ("light", "dark"):
        for width in (500, 1400):
            at(page, width, scheme)
            page.open(path)
            page.ask("document.querySelectorAll('details').forEach((part) => { part.open = true })")
            page.call("Runtime.evaluate", expression=script)
            wrong = page.ask(
                "axe.run().then(({ violations, passes }) => [passes.length, violations.map((one) => "
                "`${one.id}: ${one.nodes[0].html.slice(0, 200)}`)])"
            )
            assert wrong[0] > 15
            found += wrong[1]
    return found
