"""``ckpt verify``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import PathsArgument, app
from ckpt_tools.cli.beside_manifest import BesideManifest, compare_or_write
from ckpt_tools.cli.checks import Answer, Junit, Sarif, run
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import UsageError
from ckpt_tools.findings import exit_code
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.sampling import Selection
    from ckpt_tools.analysis.verification import Verification

# A file that is all wrong has a finding for each of its tensors; --json has them all.
_MOST_FINDINGS = 20


@app.command(
    epilog=epilog(
        "ckpt verify best_model/book_DNN_b128_lr0.005_d64_len20_test85",
        "ckpt verify model.keras",
        "ckpt verify fixtures/*.keras --junit verify.xml",
        "ckpt verify model.ckpt-1000 --part 3/20",
        "ckpt verify model.ckpt-1000 --manifest model.ckpt-1000.sha256",
    )
)
def verify(
    paths: PathsArgument,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check the index and that all data is there; do not read the data.")
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option("--sample", metavar="SHARE", help="Read tensors by chance, such as 5%.", show_default=False),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part", metavar="N/M", help="Read part N of M, which together are all tensors.", show_default=False
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="Compare with a list of digests; write it when there is none: of tensors (.json), else as sha256sum.",
            show_default=False,
        ),
    ] = None,
    junit: Junit = None,
    sarif: Sarif = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every byte of a checkpoint against its checksums; name what is damaged, and the cause.

    With --sample or --part the bytes of some tensors. With --manifest also against the digests of its origin.
    """
    output = Output("verify", paths[0] if len(paths) == 1 else None, json=json, quiet=quiet)

    def body() -> int:
        selection = _selection(sample, part, quick)
        _require_one(manifest, paths, quick)
        return run(output, paths, lambda path: ask(path, selection), command="verify", junit=junit, sarif=sarif)

    def ask(path: str, selection: Selection | None) -> Answer:
        from ckpt_tools.analysis.verification import verify

        with output.progress("verifying") as progress:
            found = verify(path, quick=quick, part=selection, progress=progress)
        if manifest is None:
            return Answer(found.prefix, found.to_json(), lambda: _text(found), found.findings, not found.whole)
        beside = compare_or_write(found, manifest)
        found = replace(found, findings=(*found.findings, *beside.findings))
        document = {**found.to_json(), "manifest": beside.to_json()}
        wrong = bool(exit_code(found.findings))
        return Answer(found.prefix, document, lambda: (*_text(found), *_of_manifest(beside)), found.findings, wrong)

    finish(output, body)


def _selection(sample: str | None, part: str | None, quick: bool) -> Selection | None:
    from ckpt_tools.analysis.sampling import parse_part, parse_share

    if (sample is not None) + (part is not None) + quick > 1:
        raise UsageError("--sample, --part and --quick exclude each other")
    if sample is not None:
        return parse_share(sample)
    return None if part is None else parse_part(part)


def _require_one(manifest: str | None, paths: Sequence[str], quick: bool) -> None:
    if manifest is not None and (quick or len(paths) > 1):
        raise UsageError("--manifest is of one checkpoint that is read" + (": leave out --quick" if quick else ""))


def _of_manifest(beside: BesideManifest) -> Iterator[RenderableType]:
    name = safe(beside.manifest)
    if beside.written:
        yield Text.assemble(("✓ ", "bold green"), f"{name}: written; the next time this is what it is compared with")
    elif beside.findings:
        yield Text.assemble(("✗ ", "bold red"), f"{name}: {render.count(len(beside.findings), 'difference')}")
    else:
        things = render.count(beside.compared, "tensor" if beside.of_tensors else "file")
        yield Text.assemble(("✓ ", "bold green"), f"{name}: {things} as listed")


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
        if found.part:
            did = (
                f"{found.tensors_checked} of them read ({found.part}: {render.size(found.bytes_checked)} of "
                f"{render.size(found.bytes)}), nothing damaged among these"
            )
        yield Text.assemble(("✓ ", "bold green"), f"{safe(found.prefix)}: {tensors}, {said(did)}")
    else:
        yield Text.assemble(("✗ ", "bold red"), f"{safe(found.prefix)}: {said(_broken(found, tensors))}")
    if found.diagnosis:
        yield Text.assemble((f"  {said('cause')}: ", "bold"), safe(said(found.diagnosis.sentence)))
        if found.diagnosis.fix:
            yield render.next_step(found.diagnosis.fix)
    files = [finding for finding in found.findings if finding.key is None]
    yield from render.findings(files[:_MOST_FINDINGS])
    tensors_hit = [finding for finding in found.findings if finding.key is not None]
    for finding in tensors_hit[:_MOST_FINDINGS]:
        yield Text.assemble("  - ", (safe(finding.key), "bold"), f": {safe(said(finding.message))}")
    if len(tensors_hit) > _MOST_FINDINGS:
        yield Text(f"  … and {len(tensors_hit) - _MOST_FINDINGS} more; --json lists all", style="dim")
