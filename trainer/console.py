"""The one place that prints: results on stdout, progress and warnings on stderr, colours only on a terminal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.live import Live
from rich.text import Text

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding, noted
from trainer.rows import Row

SCHEMA_VERSION = 1


class Console:
    """Where one command's answer goes. ``as_json``: stdout gets one object and nothing else; ``quiet``: only errors."""

    def __init__(self, command: str, *, as_json: bool = False, quiet: bool = False) -> None:
        self._command = command
        self._as_json = as_json
        self._silent = quiet or as_json
        self._out = RichConsole(soft_wrap=True, highlight=False)
        self._err = RichConsole(stderr=True, soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._notes: Sequence[Finding] = ()

    def line(self, text: str) -> None:
        if not self._silent:
            self._out.print(Text(text))

    def findings(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if not self._silent:
                self._err.print(Text.assemble((finding.severity, "yellow"), f": {finding.message}"))

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
        style = "bold green" if row.best_step == row.step else ""
        rest = f"  ndcg {row.ndcg:.6f}  hitrate {row.hitrate:.6f}  best {row.best_metric:.6f} (step {row.best_step})"
        self._out.print(Text.assemble(f"step {row.step}  {loss}", (f"recall {row.recall:.6f}", style), rest))

    def updated(self, step: int, max_steps: int) -> None:
        self._progress(f"step {step} of {max_steps}")

    def measured(self, done: int, total: int) -> None:
        self._progress(f"evaluating: {done} of {total} users")

    def read(self, done: int, total: int) -> None:
        self._progress(f"reading: {done >> 20} of {total >> 20} MB")

    def document(self, path: str | None, document: Mapping[str, Any]) -> None:
        """The JSON object, when it was asked for."""
        if self._as_json:
            head = {"schema_version": SCHEMA_VERSION, "command": self._command, "path": path}
            notes = [note.to_json() for note in self._notes]
            whole = {**head, **document, "findings": [*document.get("findings", ()), *notes]}
            print(json.dumps(whole), flush=True)

    def error(self, error: CkptError, path: str | None) -> None:
        """How a command failed: in words on stderr, and as JSON when that was asked for."""
        self.end_progress()
        self._err.print(Text.assemble(("error", "bold red"), f": {error}"))
        if error.hint:
            self._err.print(Text.assemble(("  next", "bold"), f": {error.hint}"))
        finding = Finding(error.id, "damage", error.message, error.path, error.key, error.offset, error.hint)
        summary = {"id": error.id, "exit_code": error.exit_code, "message": str(error), "hint": error.hint}
        self.document(path, {"findings": [finding.to_json()], "error": summary})

    def end_progress(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _progress(self, text: str) -> None:
        if self._silent or not self._err.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self._err, transient=True, refresh_per_second=4)
            self._live.start()
        self._live.update(Text(text))
