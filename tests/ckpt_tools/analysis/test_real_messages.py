"""``ckpt explain`` on what people pasted into public issues: each is known, however it was wrapped on its way."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, pick
from real_messages import REAL, Real

from ckpt_tools.analysis.explanation import explain
from ckpt_tools.analysis.messages import KNOWN
from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError


def test_there_are_many_of_them() -> None:
    assert len(REAL) >= 120
    assert len({real.text for real in REAL}) == len(REAL)
    assert {real.id for real in REAL} <= {known.id for known in KNOWN}
    assert len({real.id for real in REAL}) >= 50


@pytest.mark.parametrize("real", REAL, ids=lambda real: f"{real.id}-{real.source.split('/', 3)[-1]}")
def test_each_is_known(real: Real, tmp_path: Path) -> None:
    found = explain(real.text)
    assert found.id == real.id
    assert found.fix.startswith("ckpt ")
    assert explain(real.text, build_bundle(tmp_path / "m", {"v": np.ones(3, np.float32)})).id == real.id


def wrapped(text: str, width: int) -> str:
    """As a terminal breaks it: in the middle of words."""
    return "\n".join(line[n : n + width] for line in text.splitlines() for n in range(0, max(1, len(line)), width))


NOISE: dict[str, Callable[[str], str]] = {
    "colours": lambda text: re.sub(r"(\w+)", "\x1b[31;1m\\1\x1b[0m", text),
    "colours without their escape": lambda text: f"[0;31m{text}[0m",
    "broken by a terminal": lambda text: wrapped(text, 37),
    "broken, and blanks lost at the ends of lines": lambda text: "\n".join(
        s.strip() for s in wrapped(text, 41).split("\n")
    ),
    "broken at blanks": lambda text: text.replace(" ", "\n    "),
    "a test's report": lambda text: "".join(f"E   {line}\n" for line in text.splitlines()),
    "a container's log": lambda text: "".join(f"trainer-1  | {line}\n" for line in text.splitlines()),
    "a logger": lambda text: "".join(f"2024-05-01 10:11:12,345 {line}\n" for line in text.splitlines()),
    "quoted in a mail": lambda text: "".join(f">> {line}\n" for line in text.splitlines()),
    "typographic quotes": lambda text: text.replace("'", "’").replace('"', "“").replace("`", "‘"),
    "HTML": lambda text: text.replace("&", "&amp;").replace("'", "&#39;").replace('"', "&quot;").replace("<", "&lt;"),
    "upper case": str.upper,
    "other blanks": lambda text: text.replace(" ", "\u00a0").replace("\n", "\r\n"),
    "invisible characters": lambda text: "\ufeff" + text.replace(" ", "\u200b "),
    "in a traceback": lambda text: (
        'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    main()\n'
        f"{text}\n\nDuring handling of the above exception, another exception occurred:\n\nSystemExit: 1"
    ),
}


@pytest.mark.parametrize("noise", NOISE)
def test_noise_does_not_matter(noise: str) -> None:
    wrong = [real.source for real in REAL if explain(NOISE[noise](real.text)).id != real.id]
    assert not wrong


def test_paths_of_any_system_do_not_matter() -> None:
    places = [
        "C:\\Users\\me\\My Models\\m.ckpt-9",
        "\\\\server\\share\\m.ckpt-9",
        "/mnt/c/a b/m.ckpt-9",
        "gs://b/m.ckpt-9",
    ]
    for place in places:
        assert (
            explain(f"Unsuccessful TensorSliceReader constructor: Failed to find any matching files for {place}").id
            == "no-match"
        )
        assert (
            explain(
                f"DataLossError: Unable to open table file {place}: Data loss: not an sstable (bad magic number)"
            ).id
            == "wrong-file"
        )


def test_what_is_not_about_checkpoints_is_not_known() -> None:
    for text in [
        "it does not work",
        "NameError: name 'tf' is not defined",
        "ImportError: cannot import name 'adam' from 'keras.optimizers'",
        "ResourceExhaustedError: OOM when allocating tensor with shape[64,512,28,28]",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "ModuleNotFoundError: No module named 'tensorflow.contrib'",
        "Epoch 3/10 - loss: 0.3 - val_loss: 0.2",
        "Epoch 3: val_loss improved from 0.31 to 0.30, saving model to m.keras",
        "KeyError: 'loss'",
        "",
    ]:
        with pytest.raises(NotFoundError):
            explain(text)


def test_random_text_is_not_known() -> None:
    letters = random.Random(1)
    for _ in range(50):
        with pytest.raises(NotFoundError):
            explain("".join(letters.choice("abcdefghij KLMN\n:'./") for _ in range(400)))


def test_a_long_message_takes_no_long_time() -> None:
    import time

    begin = time.process_time()
    for filling in (
        "Key " * 8_000,
        "a" * 30_000,
        "[" * 30_000,
        "Unable to open table file " * 1_000,
        "\\n" * 15_000,
    ):
        with pytest.raises(NotFoundError):
            explain(filling.replace("table file", "table"))
        assert explain(f"{filling}\nOSError: Unable to open file (file signature not found)").id in {
            known.id for known in KNOWN
        }
    assert time.process_time() - begin < 10


def test_every_cause_is_a_sentence_with_a_command_that_exists() -> None:
    from ckpt_tools.cli import COMMANDS

    assert len({known.id for known in KNOWN}) == len(KNOWN) >= 60
    for known in KNOWN:
        command, _, rest = known.fix.partition(" ")
        assert command == "ckpt"
        assert rest.split()[0] in COMMANDS
        assert "{path}" in known.fix
        assert len(known.cause) > 30


def test_braces_in_a_path_are_part_of_it(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "{y} {0}", {"v": np.ones(3, np.float32)})
    assert explain("file signature not found", prefix).fix == f"ckpt inspect {shlex.quote(prefix)}"
    assert shlex.quote(prefix) in explain("Checksum does not match", prefix).fix


def test_the_command_says_cause_check_and_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    sample = pick("tf2.10")
    assert (
        run(["explain", "You are trying to restore a checkpoint from a legacy Keras optimizer", str(sample.path)]) == 3
    )
    capsys.readouterr()
    message = "restore a checkpoint from a legacy Keras optimizer into a v2.11+ Optimizer"
    assert run(["explain", message, str(sample.path)]) == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0].strip() for line in said.splitlines()] == ["cause", "here", "next"]
