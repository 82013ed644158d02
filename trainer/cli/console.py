"""The one place that prints: results on stdout, progress and warnings on stderr, colours only on a terminal."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ckpt_tools.console.escapes import safe
from ckpt_tools.console.pipes import while_read
from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding, noted
from ckpt_tools.redaction import redacted
from trainer.checkpoints.run_state import RunState
from trainer.monitoring.rows import Row

SCHEMA_VERSION = 1
# Drawing at each step, of which there are hundreds in a second, would be a part of the work.
_FRAME_SECONDS = 0.2


class Console:
    """Where one command's answer goes. ``as_json``: stdout gets one object and nothing else; ``quiet``: only errors."""

    def __init__(self, command: str | None, *, as_json: bool = False, quiet: bool = False) -> None:
        self._command = command
        self._as_json = as_json
        self._silent = quiet or as_json
        for stream in (sys.stdout, sys.stderr):
            # Names that are not UTF-8 come out as \\udcXX, which is also how JSON writes them.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self._out = RichConsole(soft_wrap=True, highlight=False)
        self._err = RichConsole(stderr=True, soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._drawn = 0.0
        self._since = (0.0, 0)
        self._notes: Sequence[Finding] = ()

    def line(self, text: str) -> None:
        if not self._silent:
            with while_read():
                self._print(Text(safe(text)))

    def findings(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if not self._silent:
                self._err.print(Text.assemble((finding.severity, "yellow"), f": {safe(finding.message)}"))

    @contextlib.contextmanager
    def with_notes(self) -> Iterator[None]:
        """What storage warns of in the block goes into the JSON, or for people onto stderr at its end."""
        with noted() as notes:
            self._notes = notes
            yield
        self.end_progress()
        self.findings(notes)

    def evaluated(self, row: Row) -> None:
        """One plain line for each evaluation, so that a pipe can be read as it grows."""
        self.end_progress()
        if self._silent:
            return
        loss = "" if row.loss is None else f"loss {row.loss:.4f}  "
        style = "bold green" if row.best_metric and row.best_step == row.step else ""
        best = f"best {row.best_metric:.6f} (step {row.best_step})" if row.best_metric else "no best yet"
        rest = f"  ndcg {row.ndcg:.6f}  hitrate {row.hitrate:.6f}  {best}"
        with while_read():
            self._print(Text.assemble(f"step {row.step}  {loss}", (f"recall {row.recall:.6f}", style), rest))

    def updated(self, run_state: RunState, max_steps: int, patience: int) -> None:
        """How the training goes: since the last evaluation the speed and the loss, the best, the patience used up."""
        self._progress(lambda: self._training(run_state, max_steps, patience))
        if self._since[1] == 0:
            self._since = time.monotonic(), run_state.step

    def measured(self, done: int, total: int) -> None:
        self._progress(lambda: Text(f"evaluating: {done} of {total} users"))

    def read(self, done: int, total: int) -> None:
        self._progress(lambda: Text(f"reading: {done >> 20} of {total >> 20} MB"))

    def document(self, path: str | None, document: Mapping[str, Any]) -> None:
        """The JSON object, when it was asked for."""
        if self._as_json:
            head = {"schema_version": SCHEMA_VERSION, "command": self._command, "path": path}
            notes = [note.to_json() for note in self._notes]
            whole = {**head, **document, "findings": [*document.get("findings", ()), *notes]}
            with while_read():
                print(json.dumps(redacted(_finite(whole)), allow_nan=False))

    def error(self, error: CkptError, path: str | None) -> None:
        """How a command failed: in words on stderr, and as JSON when that was asked for."""
        self.end_progress()
        self._err.print(Text.assemble(("error", "bold red"), f": {safe(error)}"))
        if error.hint:
            self._err.print(Text.assemble(("  next", "bold"), f": {safe(error.hint)}"))
        finding = Finding.of(error)
        summary = {"id": error.id, "exit_code": error.exit_code, "message": str(error), "hint": error.hint}
        self.document(path, {"findings": [finding.to_json()], "error": summary})

    def end_progress(self) -> None:
        self._since = 0.0, 0
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _progress(self, draw: Callable[[], RenderableType]) -> None:
        if self._silent or not self._err.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self._err, transient=True, auto_refresh=False)
            self._live.start()
            self._drawn = 0.0
        if (now := time.monotonic()) - self._drawn > _FRAME_SECONDS:
            self._drawn = now
            self._live.update(draw(), refresh=True)

    def _training(self, run_state: RunState, max_steps: int, patience: int) -> RenderableType:
        begun, first = self._since
        seconds = time.monotonic() - begun
        speed = (run_state.step - first) / seconds if first and seconds > 0 else 0.0
        pace = f"step {run_state.step} of {max_steps}"
        if speed:
            pace += f" · {speed:.0f} steps/s · {_clock((max_steps - run_state.step) / speed)} left"
        words = [] if run_state.mean_loss is None else [f"loss {run_state.mean_loss:.4f}"]
        if run_state.best_metric:
            words.append(f"best {run_state.best_metric:.6f} at step {run_state.best_step}")
        words.append(f"patience {run_state.trials} of {patience}")
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        line.add_row(ProgressBar(total=max_steps, completed=run_state.step), pace)
        return Group(line, Text(" · ".join(words)))

    def _print(self, text: Text) -> None:
        # Not by rich where nobody sees colours: it ends the program when the reader of a pipe leaves.
        if self._out.is_terminal:
            self._out.print(text)
        else:
            print(text.plain)


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: what was not measured is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
