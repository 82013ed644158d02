"""Each page of the documentation is there in Chinese, and of the same day."""

from __future__ import annotations

import re
from pathlib import Path

import documents
import pytest
import translations

ROOT = Path(__file__).parents[1]

PAGES = [page.relative_to(ROOT).as_posix() for page in documents.ENGLISH_PAGES]
HAN = re.compile(r"[\u4e00-\u9fff]")


def test_no_page_is_missing_and_none_is_older() -> None:
    assert list(translations.problems()) == []


def test_no_translation_is_of_a_page_that_is_gone() -> None:
    expected = {documents.chinese_of(page) for page in documents.ENGLISH_PAGES}
    assert set(documents.CHINESE.rglob("*.md")) <= expected


@pytest.mark.parametrize("name", PAGES)
def test_a_translation_has_the_same_blocks_and_links(name: str) -> None:
    page = ROOT / name
    english, chinese = page.read_text(), documents.chinese_of(page).read_text()
    documents.filled(chinese, english)
    prose = documents.BLOCK.sub("", documents.MADE.sub("", chinese))
    assert len(HAN.findall(prose)) > len(re.sub(r"\s", "", prose)) / 20, "hardly any Chinese in it"
    for target in re.findall(r"\]\((?!http)([^)#]+)", prose):
        assert (documents.chinese_of(page).parent / target).exists(), target


def test_a_page_that_changes_makes_its_translation_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in (("ROOT", tmp_path), ("DOCS", tmp_path / "docs"), ("CHINESE", tmp_path / "docs" / "zh")):
        monkeypatch.setattr(documents, name, place)
    page = tmp_path / "docs" / "page.md"
    chinese = tmp_path / "docs" / "zh" / "page.md"
    chinese.parent.mkdir(parents=True)
    made = "<!-- run: ls -->\n```text\n$ ls\n{}\n```\n"
    page.write_text("# One\n\n" + made.format("a"))
    chinese.write_text(documents.head(page) + "# 一\n")
    assert documents.is_current(page)
    page.write_text("# One\n\n" + made.format("another output"))
    assert documents.is_current(page)
    page.write_text("# Two\n\n" + made.format("a"))
    assert not documents.is_current(page)
    with pytest.raises(ValueError, match="other blocks"):
        documents.filled(chinese.read_text(), page.read_text())
