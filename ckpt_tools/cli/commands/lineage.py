"""``ckpt lineage``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ckpt_tools.cli.app import PathArgument, app, group
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.declaration_check import DeclarationCheck
    from ckpt_tools.lineages.declared.grammar import Declaration
    from ckpt_tools.operations.declaring import Draft

lineage = group(help="Describe another trainer's runs in a ckpt.toml, and see what is understood of them.")
app.add_typer(lineage, name="lineage", epilog=epilog("ckpt lineage list"))


@lineage.command("list", epilog=epilog("ckpt lineage list", "ckpt lineage list runs/din"))
def list_lineages(
    path: Annotated[
        str | None, typer.Argument(help="Also the ckpt.toml of this run, or above it.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the trainers that are known, and the ckpt.toml of a run."""
    output = Output("lineage list", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.lineages.declared.lookup import declared_above, presets
        from ckpt_tools.lineages.declared.trust import is_trusted

        own = declared_above(path or ".")
        found = [*([own] if own else []), *presets()]
        rows = [{**each.to_json(), **_said(each)} for each in found]
        if own:
            rows[0]["trusted"] = is_trusted(own)
        output.result({"lineages": rows, "findings": []}, lambda: _listed(found))
        return EXIT_OK

    finish(output, body)


def _said(each: Declaration) -> dict[str, object]:
    return {
        "metric": each.metric.name,
        "mode": each.metric.mode,
        "restores": each.resume.restores,
        "best": each.resume.best,
    }


def _listed(found: list[Declaration]) -> Iterator[RenderableType]:
    yield Text("comirec-tf1, comirec-keras2-slots, comirec-keras2-vars, comirec-keras3, trainer: ComiRec, built in")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("lineage", "trainer", "resumes from", "best kept in"):
        table.add_column(name, overflow="fold")
    for each in found:
        name = each.id if each.path is None else each.path
        table.add_row(Text(safe(name)), Text(safe(each.title)), each.resume.restores or "-", each.resume.best or "-")
    yield table


@lineage.command("init", epilog=epilog("ckpt lineage init runs/din", "ckpt lineage init runs/din --dry-run"))
def init(
    experiment: PathArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the draft; write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the ckpt.toml that is there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draft a ckpt.toml from what lies in a run: its checkpoints, its logs, its tensors."""
    output = Output("lineage init", experiment, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.declaring import draft

        made = draft(experiment, write=not dry_run, force=force)
        document = {
            "file": made.path,
            "written": [made.path] if made.written else [],
            "text": made.text,
            "candidates": list(made.candidates),
            "findings": [],
        }
        output.result(document, lambda: _drafted(made))
        return EXIT_OK

    finish(output, body)


def _drafted(made: Draft) -> Iterator[RenderableType]:
    yield Text(f"{safe(made.path)}{'' if made.written else ' (not written)'}", style="bold")
    for line in made.text.splitlines():
        yield Text(f"  {safe(line)}")
    if made.candidates:
        yield Text(f"which metric the best is chosen by is not told; logged were: {safe(', '.join(made.candidates))}")


@lineage.command("test", epilog=epilog("ckpt lineage test runs/din"))
def check(path: PathArgument, json: Json = False, quiet: Quiet = False) -> None:
    """Show what is recognised of a run by its ckpt.toml, or by a preset, and what not: exit code 1 when not all is."""
    output = Output("lineage test", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.analysis.declaration_check import check_declaration

        found = check_declaration(path)
        output.result(found.to_json(), lambda: _tested(found), wrong=bool(found.unknown))
        return EXIT_FINDINGS if found.unknown else EXIT_OK

    finish(output, body)


def _tested(found: DeclarationCheck) -> Iterator[RenderableType]:
    yield Text(safe(found.prefix or found.path), style="bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in found.recognised:
        table.add_row(Text(safe(f"  {what}")), Text(safe(value)))
    yield table
    for text in found.unknown:
        yield Text.assemble(("  not recognised: ", "yellow"), safe(text))
    yield from render.findings(found.findings)


@lineage.command("trust", epilog=epilog("ckpt lineage trust runs/din"))
def trust(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where the ckpt.toml lies.", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let the command of a directory's ckpt.toml run, as long as the file stays as it is. Read it first."""
    output = Output("lineage trust", directory, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations import declaring

        found = declaring.trust(directory)
        command = found.evaluate.command if found.evaluate else None
        document: dict[str, Any] = {"trusted": found.path, "sha256": found.digest, "command": command, "findings": []}
        words = f"trusted: {found.path}"
        words += f"; its command is: {command}" if command else "; it names no command"
        output.result(document, lambda: iter([Text(safe(words))]))
        return EXIT_OK

    finish(output, body)
