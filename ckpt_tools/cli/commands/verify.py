"""``ckpt verify``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli import render
from ckpt_tools.cli.app import Json, PathsArgument, Quiet, app, epilog, finish
from ckpt_tools.cli.checks import Answer, Junit, Sarif, run
from ckpt_tools.cli.output import Output, safe
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.verify import Verification

# A file that is all wrong has a finding for each of its tensors; --json has them all.
_MOST_FINDINGS = 20


@app.command(
    epilog=epilog(
        "ckpt verify best_model/book_DNN_b128_lr0.005_d64_len20_test85",
        "ckpt verify model.keras",
        "ckpt verify fixtures/*.keras --junit verify.xml",
    )
)
def verify(
    paths: PathsArgument,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check the index and that all data is there; do not read the data.")
    ] = False,
    junit: Junit = None,
    sarif: Sarif = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every byte of a checkpoint against its checksums; name what is damaged, and the cause."""
    output = Output("verify", paths[0] if len(paths) == 1 else None, json=json, quiet=quiet)

    def ask(path: str) -> Answer:
        from ckpt_tools.verify import verify

        with output.progress("verifying") as progress:
            found = verify(path, quick=quick, progress=progress)
        return Answer(found.prefix, found.to_json(), lambda: _text(found), found.findings, not found.whole)

    finish(output, lambda: run(output, paths, ask, command="verify", junit=junit, sarif=sarif))


def _broken(found: Verification, tensors: str) -> str:
    """How much is damaged. The object graph is stored as a tensor, but counted among them by nobody; of a file that
    was cut off a quick look names only the first that is lost."""
    hit = [name for name in found.damaged if name != OBJECT_GRAPH_KEY]
    parts = [f"{len(hit)} of {tensors}"] if hit else []
    if len(hit) < len(found.damaged):
        parts.append("the object graph")
    return "damaged" if found.quick or not parts else f"damaged: {' and '.join(parts)}"


def _text(found: Verification) -> Iterator[RenderableType]:
    """The verdict, the cause, what is wrong with the files, and then the damaged tensors."""
    tensors = render.count(found.tensors, "tensor")
    if found.whole:
        did = "all data is there (not read)" if found.quick else f"{render.size(found.bytes_checked)} read, whole"
        yield Text.assemble(("✓ ", "bold green"), f"{safe(found.prefix)}: {tensors}, {did}")
    else:
        yield Text.assemble(("✗ ", "bold red"), f"{safe(found.prefix)}: {_broken(found, tensors)}")
    if found.diagnosis:
        yield Text.assemble(("  cause: ", "bold"), safe(found.diagnosis.sentence))
        if found.diagnosis.fix:
            yield Text.assemble(("  next: ", "bold"), safe(found.diagnosis.fix))
    files = [finding for finding in found.findings if finding.key is None]
    yield from render.findings(files[:_MOST_FINDINGS])
    tensors_hit = [finding for finding in found.findings if finding.key is not None]
    for finding in tensors_hit[:_MOST_FINDINGS]:
        yield Text.assemble("  - ", (safe(finding.key), "bold"), f": {safe(finding.message)}")
    if len(tensors_hit) > _MOST_FINDINGS:
        yield Text(f"  … and {len(tensors_hit) - _MOST_FINDINGS} more; --json lists all", style="dim")
