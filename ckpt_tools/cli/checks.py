"""The same question about several checkpoints, and its answers for machines that watch over a repository."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckpt_tools.cli.check import Check
from ckpt_tools.console.documents import require_document, write_text
from ckpt_tools.console.output import Output
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_OK, CkptError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.filenames import index_name

if TYPE_CHECKING:
    from rich.console import RenderableType

Junit = Annotated[
    str | None,
    typer.Option("--junit", metavar="FILE", help="Also write a JUnit XML report.", show_default=False),
]
Sarif = Annotated[
    str | None,
    typer.Option("--sarif", metavar="FILE", help="Also write a SARIF 2.1.0 log, for code hosts.", show_default=False),
]


@dataclass(frozen=True)
class Answer:
    """What a command has to say about one checkpoint; its ``findings`` are those of its JSON document."""

    prefix: str | None
    document: dict[str, Any]
    text: Callable[[], Iterable[RenderableType]]
    findings: tuple[Finding, ...]
    wrong: bool


Ask = Callable[[str], Answer]


def run(output: Output, paths: Sequence[str], ask: Ask, *, command: str, junit: str | None, sarif: str | None) -> int:
    """Ask about each path, show the answers, and write the reports; returns the exit code.

    About one path it answers as any other command. Of several, paths that lead to the same checkpoint count once, as
    tools pass them that name each changed file; one that fails does not stop the others.
    """
    from ckpt_tools.runs.typed_paths import distinct

    for report in (junit, sarif):
        if report:
            require_document(report)
    checks: list[Check] = []
    results: list[dict[str, Any]] = []
    error: CkptError | None = None
    code = EXIT_OK
    for path in distinct(paths):
        start = time.monotonic()
        try:
            answer = ask(path)
        except UsageError:
            raise
        except CkptError as problem:
            error, code = problem, problem.exit_code
            finding = Finding.of(problem)
            check = Check(path, file_of(path, problem.path), (finding,), failed=code != EXIT_FINDINGS)
            results.append({"path": path, "findings": [finding.to_json()], "error": problem.id})
            if len(paths) > 1:
                output.problem(problem)
        else:
            code = EXIT_FINDINGS if answer.wrong else code
            check = Check(path, file_of(path, answer.prefix), answer.findings)
            results.append({"path": path, **answer.document})
            if len(paths) == 1:
                output.result(answer.document, answer.text, wrong=answer.wrong)
            else:
                output.lines(answer.text, wrong=answer.wrong)
        checks.append(Check(check.name, check.file, check.findings, check.failed, time.monotonic() - start))
    write(checks, command, junit=junit, sarif=sarif)
    if len(paths) == 1 and error is not None:
        raise error
    if len(paths) > 1:
        code = EXIT_FINDINGS if code else EXIT_OK
        findings = [finding for result in results for finding in result["findings"]]
        output.document({"results": results, "findings": findings})
    return code


def write(checks: Sequence[Check], command: str, *, junit: str | None, sarif: str | None) -> None:
    """Write the reports that were asked for."""
    if junit:
        from ckpt_tools.cli.junit import junit_xml

        write_text(junit, junit_xml(checks, command))
    if sarif:
        from ckpt_tools.cli.sarif import sarif_log

        write_text(sarif, sarif_log(checks, command))


def file_of(path: str, prefix: str | None) -> str:
    """The file that stands for a checkpoint: a code host shows nothing at a prefix or a directory."""
    candidates = [index_name(prefix), prefix] if prefix else []
    return next((name for name in (*candidates, path) if name and os.path.isfile(name)), path)  # noqa: TID251 - only shown
