"""What a plain installation lacks is said in a sentence, with the command to install it: exit code 7, no traceback."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckpt_tools import cli as ckpt
from trainer import cli as trainer

PROGRAMS: dict[str, Callable[[list[str]], int]] = {"ckpt": ckpt.run, "trainer": trainer.run}
RUN = "best_model/book_ComiRec-DR_b128_lr0.005_d8_len20_k3_ComiRec-DR"

# What is hidden, the modules that have it already, the command, the extra.
LACKS = [
    ("fsspec", (), "ckpt inspect s3://bucket/run", "remote"),
    ("jinja2", ("ckpt_tools.report.page",), f"ckpt report {RUN} -o page.html", "report"),
    ("distributed", (), "ckpt backfill --all . --data data --scheduler tcp://127.0.0.1:1", "cluster"),
    ("pyarrow", (), "ckpt audit s3://bucket --inventory table.parquet", "inventory"),
    ("tensorflow", (), "trainer train --dataset book --model-type DNN --exp-name a --data-dir data", "trainer"),
    ("tensorflow", (), f"trainer train --resume {RUN} --data-dir data --max-steps +1", "trainer"),
    ("tensorboard", (), f"trainer train --resume {RUN} --data-dir data --max-steps +1", "trainer"),
    ("tensorflow", (), f"trainer export {RUN} out --saved-model --data-dir data", "trainer"),
    ("faiss", (), f"trainer export {RUN} out --index flat", "trainer"),
    ("scipy", (), "trainer baseline --dataset book --data-dir data", "trainer"),
    ("polars", (), "trainer prepare raw.csv --format csv --dataset a", "trainer"),
]


@pytest.mark.parametrize(("module", "holders", "line", "extra"), LACKS, ids=lambda value: str(value)[:40])
def test_it_is_said_how_to_install_it(
    module: str,
    holders: tuple[str, ...],
    line: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ckpt.run(["demo", ".", "--quiet"]) == 0
    Path("table.parquet").write_bytes(b"PAR1")
    Path("raw.csv").write_text("user,item,time\n1,2,3\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    for name in holders:
        monkeypatch.delitem(sys.modules, name, raising=False)
    program, *arguments = shlex.split(line)
    code = PROGRAMS[program](arguments)
    said = capsys.readouterr()
    assert code == 7, said.err
    assert "Traceback" not in said.err
    assert said.err.startswith("error[unsupported]: ")
    assert said.err.splitlines()[-1].startswith("  next: pip install")
    assert f"[{extra}]" in said.err
