"""``ckpt verify --manifest``: a list of digests is compared with what is there, or written when there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt_tools.analysis import manifest as lists
from ckpt_tools.console.documents import write_text
from ckpt_tools.errors import CkptError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import local

if TYPE_CHECKING:
    from ckpt_tools.analysis.verification import Verification


@dataclass(frozen=True)
class BesideManifest:
    """``written``: there was no such list, and now there is. Else so many things were compared with it."""

    manifest: str
    of_tensors: bool
    written: bool = False
    compared: int = 0
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"file": self.manifest, "written": self.written, "compared": self.compared}


def compare_or_write(found: Verification, manifest: str) -> BesideManifest:
    """Compare a checkpoint that was verified with a list of digests, or write the list.

    Raises UsageError when a part is to make a list, or is compared with one of files; CorruptError for what is no list.
    """
    of_tensors = lists.is_of_tensors(manifest)
    if found.chosen is not None and not of_tensors:
        raise UsageError("a list of files takes all of their bytes", hint="leave out --sample and --part")
    if not local.is_there(manifest):
        return _written(found, manifest, of_tensors)
    text = lists.read(manifest)
    try:
        compared = lists.compare(found.prefix, text, of_tensors=of_tensors, only=found.chosen)
    except lists.NoManifestError as error:
        error.path = manifest
        raise
    except CkptError as error:
        # What cannot be read was found damaged already: nothing of it is as listed.
        return BesideManifest(manifest, of_tensors, findings=(Finding.of(error),))
    return BesideManifest(manifest, of_tensors, compared=compared.compared, findings=compared.findings)


def _written(found: Verification, manifest: str, of_tensors: bool) -> BesideManifest:
    if found.chosen is not None:
        raise UsageError("there is no such list, and a part cannot make one", path=manifest)
    if not found.whole:
        message = "no list is written of what is damaged"
        return BesideManifest(manifest, of_tensors, findings=(Finding("no-manifest", "error", message, manifest),))
    text = lists.make(found.prefix, of_tensors=of_tensors)
    write_text(manifest, text, errors="surrogateescape")
    return BesideManifest(manifest, of_tensors, written=True)
