"""Verifying a part of a checkpoint, and beside a list of digests of its origin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, build_bundle
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.analysis.sampling import Part, Share, parse_part, parse_share
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import UsageError
from ckpt_tools.readers import TensorInfo, open_checkpoint

SAMPLE = EXPERIMENTS[0]
ANSWERS = pytest.CaptureFixture[str]


@given(sizes=st.lists(st.integers(0, 10**12), min_size=1, max_size=40), count=st.integers(1, 60))
def test_the_parts_together_are_all_tensors_each_once(sizes: list[int], count: int) -> None:
    tensors = {str(n): TensorInfo(str(n), "uint8", (size,), size) for n, size in enumerate(sizes)}
    parts = [Part(number, count).choose(tensors) for number in range(1, count + 1)]
    assert [name for part in parts for name in part] == list(tensors)


@given(sizes=st.lists(st.integers(0, 10**12), min_size=1, max_size=40), percent=st.floats(0.01, 100))
def test_a_share_is_so_many_bytes_and_hardly_more(sizes: list[int], percent: float) -> None:
    tensors = {str(n): TensorInfo(str(n), "uint8", (size,), size) for n, size in enumerate(sizes)}
    chosen = Share(percent).choose(tensors)
    got, wanted = sum(tensors[name].nbytes for name in chosen), sum(sizes) * percent / 100
    assert chosen
    assert wanted * 0.999999 <= got <= wanted + max(sizes)


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1/0", "1", "-1/3", "1/3/5", "٣/٤"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(UsageError, match="3/20"):
        parse_part(text)


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "-5%", "nan%", "5%%", "1e1%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageError, match="5%"):
        parse_share(text)


def test_damage_is_found_in_the_part_that_it_lies_in(tmp_path: Path) -> None:
    prefix = build_bundle(
        tmp_path / "x", {name: np.full(1000, number, np.float32) for number, name in enumerate("abc")}
    )
    data = Path(f"{prefix}.data-00000-of-00001")
    raw = bytearray(data.read_bytes())
    raw[5000] ^= 1
    data.write_bytes(raw)
    answers = [verify(prefix, part=Part(number, 3)) for number in (1, 2, 3)]
    assert [answer.damaged for answer in answers] == [[], ["b"], []]
    assert [answer.chosen for answer in answers] == [("a",), ("b",), ("c",)]
    assert verify(prefix, part=Share(100)).damaged == ["b"]


def test_every_format_can_be_read_in_parts(sample: object, tmp_path: Path) -> None:
    prefix = sample.full_prefix  # type: ignore[attr-defined]
    whole = verify(prefix)
    parts = [verify(prefix, part=Part(number, 4)) for number in range(1, 5)]
    assert sum(part.tensors_checked for part in parts) == whole.tensors_checked
    assert sum(part.bytes_checked for part in parts) == whole.bytes
    out = tmp_path / "x.weights.h5"
    assert run(["export", prefix, str(out), "--names", "stored"]) == 0
    found = verify(str(out), part=Part(1, 4))
    assert found.tensors_checked < found.tensors
    assert [finding.id for finding in found.findings] == ["no-checksums"]


def test_the_words_say_what_was_read(capsys: ANSWERS) -> None:
    assert run(["verify", SAMPLE.full_prefix, "--part", "2/5"]) == 0
    said = capsys.readouterr().out
    assert "of them read (2/5:" in said
    assert "nothing damaged among these" in said


class TestManifest:
    def ask(self, capsys: ANSWERS, *words: str) -> tuple[int, dict[str, object]]:
        code = run(["verify", *words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    def test_sha256sum_checks_it_and_it_checks_what_sha256sum_wrote(
        self, copy: Callable[..., Path], capsys: ANSWERS, require_tool: Callable[[str], str]
    ) -> None:
        prefix = SAMPLE.prefix_in(copy(SAMPLE))
        folder = os.path.dirname(prefix)
        code, answer = self.ask(capsys, prefix, "--manifest", f"{folder}/list.sha256")
        assert (code, answer["manifest"]) == (0, {"file": f"{folder}/list.sha256", "written": True, "compared": 0})
        sha256sum = require_tool("sha256sum")
        subprocess.run([sha256sum, "--check", "--strict", "list.sha256"], cwd=folder, check=True)
        names = sorted(name for name in os.listdir(folder) if name.startswith(os.path.basename(prefix)))
        for options in ([], ["--binary"]):
            made = subprocess.run([sha256sum, *options, *names], cwd=folder, check=True, capture_output=True)
            Path(f"{folder}/theirs").write_bytes(made.stdout)
            assert self.ask(capsys, prefix, "--manifest", f"{folder}/theirs")[0] == 0
        # A list of a whole tree, made elsewhere.
        made = subprocess.run(
            ["sh", "-c", f"{sha256sum} $(find . -type f)"], cwd=folder, check=True, capture_output=True
        )
        Path(f"{folder}/tree").write_bytes(made.stdout)
        assert self.ask(capsys, prefix, "--manifest", f"{folder}/tree")[0] == 0

    @pytest.mark.parametrize("name", ["a\\b", "a\nb", "ä b", "#x", "caf\udce9"])
    def test_names_of_any_kind(
        self, tmp_path: Path, capsys: ANSWERS, require_tool: Callable[[str], str], name: str
    ) -> None:
        prefix = build_bundle(tmp_path / name, {"a": np.float32(1)})
        for _ in range(2):
            assert run(["verify", prefix, "--manifest", str(tmp_path / "list")]) == 0
        capsys.readouterr()
        subprocess.run([require_tool("sha256sum"), "--check", "--strict", "list"], cwd=tmp_path, check=True)

    def test_another_save_of_the_same_names_is_told_from_the_origin(self, tmp_path: Path, capsys: ANSWERS) -> None:
        """Though it is whole: nothing else would tell it."""
        prefix = build_bundle(tmp_path / "x", {"a": np.float32(1), "b": np.float32(2)})
        for manifest in ("files.sha256", "tensors.json"):
            assert self.ask(capsys, prefix, "--manifest", str(tmp_path / manifest))[0] == 0
        build_bundle(tmp_path / "x", {"a": np.float32(1), "b": np.float32(3), "c": np.float32(4)})
        code, answer = self.ask(capsys, prefix, "--manifest", str(tmp_path / "files.sha256"))
        assert code == 1
        assert answer["whole"]
        assert len(answer["findings"]) == 2  # type: ignore[arg-type]
        code, answer = self.ask(capsys, prefix, "--manifest", str(tmp_path / "tensors.json"))
        assert (code, [found["key"] for found in answer["findings"]]) == (1, ["b", "c"])  # type: ignore[attr-defined]
        # Of a part only its own tensors are compared.
        assert self.ask(capsys, prefix, "--manifest", str(tmp_path / "tensors.json"), "--part", "1/3")[0] == 0

    def test_tensors_are_compared_across_formats(self, tmp_path: Path, capsys: ANSWERS) -> None:
        manifest = str(tmp_path / "m.json")
        assert self.ask(capsys, SAMPLE.full_prefix, "--manifest", manifest)[0] == 0
        out = str(tmp_path / "x.weights.h5")
        assert run(["export", SAMPLE.full_prefix, out, "--names", "stored"]) == 0
        with open_checkpoint(out) as exported, open_checkpoint(SAMPLE.full_prefix) as origin:
            same = set(exported.tensors) == set(origin.tensors)
        capsys.readouterr()
        code, _ = self.ask(capsys, out, "--manifest", manifest)
        assert (code == 0) == same

    @pytest.mark.parametrize(
        "text",
        ["", "x\n", "abc  x.index\n", "0" * 64 + "  other\n", "{}", "[" * 10**5, '{"tensors": {"a": 1}}', "\0"],
    )
    @pytest.mark.parametrize("name", ["list", "list.json"])
    def test_what_is_no_list_is_named_with_its_file(
        self, tmp_path: Path, capsys: ANSWERS, text: str, name: str
    ) -> None:
        prefix = build_bundle(tmp_path / "x", {"a": np.float32(1)})
        (tmp_path / name).write_text(text)
        code, answer = self.ask(capsys, prefix, "--manifest", str(tmp_path / name))
        assert code == 1
        assert answer["error"]["message"].startswith(str(tmp_path / name))  # type: ignore[index]
        assert (tmp_path / name).read_text() == text

    def test_damage_makes_no_list(self, copy: Callable[..., Path], tmp_path: Path, capsys: ANSWERS) -> None:
        prefix = SAMPLE.prefix_in(copy(SAMPLE))
        data = next(Path(prefix).parent.glob("*.data-*"))
        raw = bytearray(data.read_bytes())
        raw[50] ^= 1
        data.write_bytes(raw)
        code, _ = self.ask(capsys, prefix, "--manifest", str(tmp_path / "list"))
        assert code == 1
        assert not (tmp_path / "list").exists()

    def test_a_moved_copy_is_the_same(self, copy: Callable[..., Path], tmp_path: Path, capsys: ANSWERS) -> None:
        prefix = SAMPLE.prefix_in(copy(SAMPLE))
        assert self.ask(capsys, prefix, "--manifest", str(tmp_path / "list"))[0] == 0
        shutil.copytree(os.path.dirname(prefix), tmp_path / "elsewhere")
        moved = str(tmp_path / "elsewhere" / os.path.basename(prefix))
        assert self.ask(capsys, moved, "--manifest", str(tmp_path / "list"))[0] == 0

    @pytest.mark.parametrize(
        "words",
        [
            ["--manifest", "list", "--quick"],
            ["--manifest", "list", "--part", "1/2"],
            ["--manifest", "list.json", "--part", "1/2"],
            ["--part", "1/2", "--sample", "5%"],
            ["--part", "1/2", "--quick"],
        ],
    )
    def test_what_contradicts_itself(self, words: list[str], tmp_path: Path, capsys: ANSWERS) -> None:
        words = [str(tmp_path / word) if word.startswith("list") else word for word in words]
        assert self.ask(capsys, SAMPLE.full_prefix, *words)[0] == 2
        assert not list(tmp_path.iterdir())
