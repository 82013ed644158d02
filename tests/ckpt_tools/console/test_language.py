"""Chinese for those who read it: the table follows the code, and nothing that a program reads is translated."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from ckpt_tools import cli as ckpt
from ckpt_tools import finding_ids
from ckpt_tools.analysis.messages import KNOWN
from ckpt_tools.console import language
from ckpt_tools.console.language import HOLE, Table, said, table, translated
from trainer import cli as trainer

ROOT = Path(__file__).parents[3]
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def english_afterwards() -> Iterator[None]:
    """The tests that come next in this process compare English."""
    yield
    language.choose("en")


@cache
def sentences() -> frozenset[str]:
    """Every text of the code, with `HOLE` for what is filled in."""
    found = set()
    for package in ("ckpt_tools", "trainer"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
                    found.add("".join(map(str, parts)))
    return frozenset(found | words_of_pages())


@cache
def words_of_pages() -> frozenset[str]:
    """What the templates of the report say."""
    templates = (ROOT / "ckpt_tools" / "report" / "templates").glob("*.j2")
    return frozenset(word for path in templates for word in re.findall(r'_\("([^"]+)"\)', path.read_text()))


@cache
def entries() -> dict[str, str]:
    known = table()
    return {**known.exact, **{HOLE.join(parts): words for parts, words in known.patterns}}


def test_every_entry_is_of_a_sentence_that_is_still_said() -> None:
    # Some words are names of commands or fields, with blanks for their underscores.
    said_so = sentences() | {text.replace("_", " ") for text in sentences()}
    assert [key for key in entries() if key not in said_so] == []


def test_every_entry_is_chinese_and_takes_all_that_is_filled_in() -> None:
    for key, words in entries().items():
        assert HAN.search(words) or key == words, key
        holes = [name for _, name, _, _ in Formatter().parse(words) if name is not None]
        places = set(range(len(holes))) if set(holes) <= {""} else {int(name) for name in holes}
        assert len(places) <= key.count(HOLE), key
        assert key.count(HOLE) == 0 or places, key


def test_every_cause_and_every_id_is_told_in_chinese() -> None:
    told = [known.cause for known in KNOWN]
    told += [text for each in finding_ids.ALL.values() for text in (each.meaning, each.advice)]
    assert [text for text in told if text not in entries()] == []


def test_every_word_of_a_page_is_told_in_chinese() -> None:
    assert [word for word in words_of_pages() if word not in entries()] == []


def test_what_fills_a_hole_stays_what_it_is() -> None:
    small = Table({"absent": "没有"}, [(("best ", " of ", ""), "{1} 的最优 {0}")])
    assert translated("best absent of run", small) == "run 的最优 没有"
    assert translated("best {} of {0}{x}", small) == "{0}{x} 的最优 {}"
    assert translated("best of", small) == "best of"


def test_a_sentence_of_many_parts_takes_no_longer_than_it_is() -> None:
    small = Table({}, [(("a",) * 9, "{}" * 8)])
    assert translated("a" * 100_000 + "b", small).endswith("b")


@pytest.mark.parametrize(
    ("variables", "spoken"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_TW"}, "zh"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "en_GB", "LANG": "zh_CN"}, "en"),
    ],
)
def test_the_locale_decides(variables: dict[str, str], spoken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    language.choose(None)
    assert said("absent") == ("缺失" if spoken == "zh" else "absent")
    monkeypatch.setenv("LC_ALL", "C")
    language.choose(None)


def test_an_error_and_what_to_do_are_said_in_chinese(capsys: Any) -> None:
    assert ckpt.run(["inspect", "nothing-here", "--lang", "zh"]) == 3
    assert capsys.readouterr().err == (
        "错误[not-found]: nothing-here: 没有以此为前缀的 checkpoint（没有 .index 文件）\n  下一步: ckpt audit .\n"
    )
    assert trainer.run(["--lang", "zh", "evaluate", "nothing-here"]) == 3
    assert capsys.readouterr().err.startswith("错误[not-found]: nothing-here: 没有")
    # Nothing of it is left for the next command.
    assert ckpt.run(["inspect", "nothing-here"]) == 3
    assert capsys.readouterr().err.startswith("error[not-found]: ")


def test_json_is_the_same_in_every_language(capsys: Any) -> None:
    answers = []
    for spoken in ("en", "zh"):
        assert ckpt.run(["--lang", spoken, "explain", "file signature not found", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["id"] == "not-hdf5"


def test_a_language_that_is_not_spoken_is_a_usage_error(capsys: Any) -> None:
    assert ckpt.run(["inspect", "x", "--lang", "fr"]) == 2
    assert "must be one of en, zh" in capsys.readouterr().err


def test_an_id_is_explained(capsys: Any) -> None:
    """What stands in the brackets of an error, or the whole line, is enough; in Chinese, too."""
    for words in ("not-found", "error[not-found]: x: no such file", "错误[not-found]: x: 没有这个文件"):
        assert ckpt.run(["explain", words]) == 0
        assert capsys.readouterr().out == (
            "cause: There is no such file, or no checkpoint in it.\n next: see what is there: ckpt audit DIR\n"
        )
    assert ckpt.run(["explain", "wrong-file", "x y"]) == 0
    assert capsys.readouterr().out.endswith(" next: ckpt inspect 'x y'\n")
    assert ckpt.run(["explain", "best-metric-absent", "--lang", "zh"]) == 0
    assert capsys.readouterr().out == (
        "  原因: checkpoint 里没有 best_metric：继续训练会覆盖最优模型。\n"
        "下一步: 写进去：ckpt backfill EXPERIMENT --data DIR\n"
    )


def test_an_id_means_one_thing() -> None:
    assert not {known.id for known in KNOWN} & set(finding_ids.ALL)
