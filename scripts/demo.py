"""The main job on a real old experiment, as a user would do it: ``make demo``.

A copy of a fixture goes to ``demo-output/``; every command below is run for real, and the demo fails when one of
them does not do what it says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel

HERE = Path(__file__).resolve().parent.parent
FIXTURES = HERE / "fixtures"
OUTPUT = HERE / "demo-output"
EXPERIMENT = "book_ComiRec-DR_b128_lr0.005_d8_len20_k3_ComiRec-DR"
PATH = f"best_model/{EXPERIMENT}"

console = Console(highlight=False)


def say(title: str, text: str) -> None:
    console.print()
    console.print(Panel(text, title=title, title_align="left", border_style="cyan"))


def command(*arguments: str) -> None:
    """Run one of our commands in the demo's directory and show it; stop when it fails."""
    console.print(f"\n[bold]$ {' '.join(arguments)}[/bold]", soft_wrap=True)
    program = Path(sys.executable).parent / arguments[0]
    done = subprocess.run([program, *arguments[1:]], cwd=OUTPUT, env=environment(), check=False)
    if done.returncode:
        sys.exit(f"demo: {' '.join(arguments)} ended with exit code {done.returncode}")


def answer(*arguments: str) -> dict[str, Any]:
    """The JSON of one of our commands."""
    program = Path(sys.executable).parent / arguments[0]
    done = subprocess.run([program, *arguments[1:], "--json"], cwd=OUTPUT, capture_output=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment() -> dict[str, str]:
    # TensorFlow greets with a page about the processor; it is not what this is about.
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        sys.exit(f"demo: {what} is {found!r}, expected {wanted!r}")


def logged_best() -> str:
    rows = json.loads((FIXTURES / "experiments" / "manifest.json").read_text())
    return str(next(row["best"]["recall"] for row in rows if row["experiment"] == EXPERIMENT))


def main() -> None:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    for kind in ("best_model", "runs"):
        shutil.copytree(FIXTURES / "experiments" / "tf2.21" / kind / EXPERIMENT, OUTPUT / kind / EXPERIMENT)
    shutil.copytree(FIXTURES / "data", OUTPUT / "data")
    logged = logged_best()

    say(
        "An old experiment",
        f"A ComiRec-DR run of the Keras port (TensorFlow 2.21). Its log's best recall is [bold]{logged}[/bold];\n"
        "resumed by its own trainer, it starts again from random weights and then deletes that best.",
    )
    command("ckpt", "inspect", PATH)
    expect("best_metric before", answer("ckpt", "inspect", PATH)["best_metric"]["status"], "absent")

    say("Put the best back", "The checkpoint is evaluated again; the value goes into it, the originals into a backup.")
    command("ckpt", "backfill", PATH, "--data", "data")
    best = answer("ckpt", "inspect", PATH)["best_metric"]
    expect("best_metric after", f"{best['value']:.6f}", logged)
    command("ckpt", "inspect", PATH, "--filter", "best_metric")

    say("Resume", "First the restored model is evaluated: it must score its best. Only then training goes on.")
    command("trainer", "train", "--resume", PATH, "--data-dir", "data", "--max-steps", "+100", "--test-iter", "50")
    rows = [json.loads(line) for line in (OUTPUT / "runs" / EXPERIMENT / "metrics.jsonl").read_text().splitlines()]
    expect("the first evaluation after the resume", f"{rows[0]['recall']:.6f}", logged)

    last = rows[-1]
    say(
        "Done",
        f"logged best [bold]{logged}[/bold] = backfilled [bold]{best['value']:.6f}[/bold] = first evaluation after "
        f"the resume [bold]{rows[0]['recall']:.6f}[/bold]\n"
        f"now at step {last['step']}, best {last['best_metric']:.6f} (step {last['best_step']}). "
        "All files are in demo-output/.",
    )


if __name__ == "__main__":
    main()
