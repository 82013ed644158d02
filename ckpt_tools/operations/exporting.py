"""The tensors of a checkpoint in formats of other programs.

    OUT.safetensors   u64 size of the header, header (JSON, padded with blanks), the values one after the other
    OUT.npz           a zip archive with one .npy for each tensor; no pickles
    OUT.weights.h5    HDF5: the layout of Keras 3 where there is an object graph, else a dataset for each name
    OUT.h5            HDF5 of Keras 1 and 2, which Keras 3 reads too: layers by position, whatever they are called

Sources: github.com/huggingface/safetensors (README.md), numpy.lib.format, keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal

from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import MismatchError, NotFoundError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.safetensors import METADATA
from ckpt_tools.fs import durable, local
from ckpt_tools.lineages.naming import KERAS_FILES, Named, by_canonical_name, by_stored_name, with_slashes
from ckpt_tools.operations.export_names import harmless
from ckpt_tools.operations.export_writers import TOP_LEVEL, WRITERS, Content, Written, refusal, side_by_side
from ckpt_tools.operations.keras_layout import Doubt, KerasModel
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.opening import open_meant

if TYPE_CHECKING:
    import numpy as np

Names = Literal["canonical", "stored", "keras"]
OnProgress = Callable[[int, int], None]

_HDF5 = (".weights.h5", ".h5")
_MOST_DOUBTS = 20


@dataclass(frozen=True)
class Export:
    """The answer of ``ckpt export``.

    ``certain`` is False when the checkpoint does not tell where Keras looks for some weights: they are at the most
    probable place, and ``findings`` say which. Tensors that the format cannot hold are there too.
    """

    prefix: str
    output: str
    format: str
    written: tuple[Written, ...]
    findings: tuple[Finding, ...]
    certain: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "output": self.output,
            "format": self.format,
            "certain": self.certain,
            "written": [asdict(row) for row in self.written],
            "findings": [finding.to_json() for finding in self.findings],
        }


def export(
    path: str | os.PathLike[str],
    output: str,
    *,
    names: Names | None = None,
    model: str | None = None,
    force: bool = False,
    progress: OnProgress | None = None,
) -> Export:
    """Write the tensors of a checkpoint to a new file; its ending says in which format.

    Args:
        path: whatever `readers.locate` takes, or an experiment.
        output: a name that ends in .safetensors, .npz, .weights.h5 or .h5.
        names: ``canonical`` (the trainer's, where the producer is known), ``stored`` or, for HDF5, ``keras``;
            by default keras for HDF5 of a checkpoint with an object graph, else canonical.
        model: which child of the checkpoint is the model, for names of Keras; found when it is the only one.
        force: replace a file that is there.
        progress: told the bytes of values that were read, and those that there are.

    Raises:
        UsageError: another ending, names that the format does not have, or the file is there already.
        NotFoundError: there is no such checkpoint, or no such directory.
        MismatchError: it is not known where Keras looks for any weight, or it reads this file as it is.
        CorruptError and others: a tensor cannot be read; nothing is written then.
    """
    ending = next((ending for ending in WRITERS if output.endswith(ending)), None)
    if ending is None:
        raise UsageError(f"{output}: the name must end in {', '.join(WRITERS)}")
    if local.is_there(output) and not force:
        raise UsageError("there is such a file already", path=output, hint="--force replaces it")
    if names == "keras" and ending not in _HDF5:
        raise UsageError("the names of Keras are for .weights.h5 and .h5")
    directory = local.directory_of(output)
    if not local.is_directory(directory, follow=True):
        raise NotFoundError("no such directory", path=directory, hint=f"mkdir -p {shlex.quote(directory)}")
    with durable.created(output, replace=force) as file:
        return _written(path, output, ending, names, model, file, progress)


@steady
def _written(
    path: str | os.PathLike[str],
    output: str,
    ending: str,
    names: Names | None,
    model: str | None,
    file: IO[bytes],
    progress: OnProgress | None,
) -> Export:
    """Write to a file that is open already; what an earlier try has written there is forgotten."""
    file.seek(0)
    file.truncate()
    with open_meant(path) as checkpoint:
        chosen = names or _default_names(checkpoint, ending)
        if ending == ".h5" and chosen != "keras":
            raise UsageError(
                "a .h5 holds the layers of a Keras model, by position",
                path=output,
                hint="give it the ending .weights.h5",
            )
        findings: list[Finding] = []
        certain = True
        if chosen == "keras":
            content, doubts = _keras_content(checkpoint, ending, model)
            certain = not doubts
            findings += _told(doubts, checkpoint.prefix, ending, os.fspath(path))
        else:
            named = by_stored_name(checkpoint) if chosen == "stored" else by_canonical_name(checkpoint)
            named = {with_slashes(checkpoint, name): tensor for name, tensor in named.items()}
            content = Content(dict(sorted(named.items())), {})
        content = _within(content, ending, checkpoint.prefix, findings)
        if progress is not None:
            content = _followed(content, progress)
        written, refused = WRITERS[ending](file, content)
        findings += [_left_out(reason, checkpoint.prefix, key) for key, reason in refused]
        return Export(checkpoint.prefix, output, ending, tuple(written), tuple(findings), certain)


def _followed(content: Content, progress: OnProgress) -> Content:
    """The same, each of whose tensors tells when it was read. Of strings the bytes are not known before."""
    sizes = {
        name: math.prod(tensor.shape) * (BY_NAME[tensor.dtype].size if tensor.dtype in BY_NAME else 0)
        for name, tensor in content.tensors.items()
    }
    total = sum(sizes.values())
    done = 0

    def reading(name: str, tensor: Named) -> np.ndarray:
        nonlocal done
        value = tensor.read()
        done += sizes.pop(name, 0)  # once: some are read twice
        progress(done, total)
        return value

    tensors = {name: replace(tensor, read=partial(reading, name, tensor)) for name, tensor in content.tensors.items()}
    return replace(content, tensors=tensors)


def _default_names(checkpoint: Checkpoint, ending: str) -> Names:
    if ending not in _HDF5:
        return "canonical"
    if checkpoint.format in KERAS_FILES:
        _refuse_as_it_is(checkpoint, ending)
        return "stored"
    if checkpoint.graph is None:
        return "keras" if ending == ".h5" else "canonical"
    return "keras"


def _refuse_as_it_is(checkpoint: Checkpoint, ending: str) -> None:
    """A file of Keras is converted into no other kind of file of Keras: its layers are called in another way there."""
    legacy = checkpoint.format == "keras-h5"
    if legacy or ending == ".h5":
        call = f"model.load_weights({checkpoint.prefix!r})"
        which = "the layers of a .h5 of Keras 1 or 2 by position" if legacy else "it"
        raise MismatchError(
            f"nothing was written: Keras 3 loads this file as it is, with {call}; it reads {which}, and the names that "
            f"a {ending} has are not in it",
            path=checkpoint.prefix,
            hint=f"ckpt verify {shlex.quote(checkpoint.prefix)}",
        )


# ----------------------------------------------------------------------------------------- Keras


def _keras_content(checkpoint: Checkpoint, ending: str, child: str | None) -> tuple[Content, list[Doubt]]:
    """The weights of the model where Keras looks for them, and what is not certain of it."""
    graph = checkpoint.graph
    if graph is None:
        raise MismatchError(
            "the checkpoint does not tell layers from each other: it has no object graph",
            path=checkpoint.prefix,
            hint=f"ckpt inspect {shlex.quote(checkpoint.prefix)}",
        )
    if child is not None and graph.child(child) is None:
        raise UsageError(f"--model {child}: the checkpoint has no such child", path=checkpoint.prefix)
    found = KerasModel(graph, checkpoint.tensors, getattr(checkpoint, "classes", None), child)
    if child is None and len(parts := found.parts) > 1:
        raise MismatchError(
            f"holds several models: {', '.join(parts)}",
            path=checkpoint.prefix,
            hint=f"say which one: --model {shlex.quote(parts[0])}",
        )
    stored = by_stored_name(checkpoint)
    if ending == ".h5":
        content, doubts = _by_position(found, stored)
    else:
        content, doubts = _by_class(found, stored)
    if not content.tensors:
        raise MismatchError(
            "nothing was written: no weights of layers in the object graph"
            + "".join(f"; {doubt.message}" for doubt in doubts[:1]),
            path=checkpoint.prefix,
            hint=f"ckpt inspect {shlex.quote(checkpoint.prefix)} --tree",
        )
    return content, doubts


def _by_class(model: KerasModel, stored: Mapping[str, Named]) -> tuple[Content, list[Doubt]]:
    layout = model.by_class()
    tensors: dict[str, Named] = {}
    links: dict[str, str] = {}
    first: dict[str, str] = {}
    for group, keys in sorted(layout.groups.items()):
        for number, key in enumerate(keys):
            name = f"{group}/vars/{number}" if group else f"vars/{number}"
            if key in first:
                links[name] = first[key]
            else:
                tensors[name] = stored[key]
                first[key] = name
    return Content(tensors, links), list(layout.doubts)


def _by_position(model: KerasModel, stored: Mapping[str, Named]) -> tuple[Content, list[Doubt]]:
    tensors: dict[str, Named] = {}
    links: dict[str, str] = {}
    first: dict[str, str] = {}
    layers: list[tuple[str, list[str]]] = []
    rows, doubts = model.by_position()
    taken = {TOP_LEVEL}
    for number, (layer, keys) in enumerate(rows):
        name = re.sub(r"[^\w.-]", "_", layer)[:200] if layer else TOP_LEVEL
        if layer and name in taken:
            name = f"{name}_at_{number}"
        taken.add(name)
        weights = []
        for place, key in enumerate(keys):
            last = re.sub(r"[^\w.-]", "_", key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").rsplit("/", 1)[-1])[:100]
            weight = f"{place}_{last}:0"
            weights.append(weight)
            if key in first:
                links[f"{name}/{weight}"] = first[key]
            else:
                first[key] = f"{name}/{weight}"
                tensors[first[key]] = stored[key]
        layers.append((name, weights))
    if not any(name == TOP_LEVEL for name, _ in layers):
        layers.append((TOP_LEVEL, []))
    return Content(tensors, links, layers), doubts


def _told(doubts: list[Doubt], prefix: str, ending: str, path: str) -> list[Finding]:
    """What is not certain, as findings; the last one says what to do."""
    if not doubts:
        return []
    found = [Finding("not-certain", "error", doubt.message, prefix) for doubt in doubts[:_MOST_DOUBTS]]
    if len(doubts) > _MOST_DOUBTS:
        found.append(Finding("not-certain", "error", f"and {len(doubts) - _MOST_DOUBTS} more of these", prefix))
    compare = "compare an output of the model, once this is loaded, with one from before"
    message, fix = compare, None
    if ending == ".weights.h5" and any(doubt.of_class for doubt in doubts):
        message = (
            "Keras loads this if it calls the same layers so, and else fails; the layers of a .h5 it loads by "
            "position, whatever their classes are"
        )
        if not all(doubt.of_class for doubt in doubts):
            message += f"; with either, {compare}"
        out = f"{os.path.basename(prefix) or 'model'}.h5"
        fix = f"ckpt export {shlex.quote(path)} {shlex.quote(out)}"
    return [*found, Finding("what-to-do", "note", message, prefix, fix=fix)]


# ----------------------------------------------------------------------------------------- what a file can hold


def _within(content: Content, ending: str, prefix: str, findings: list[Finding]) -> Content:
    """Only what a file of that kind can hold, under names that it can have."""
    kept = {}
    for name, tensor in content.tensors.items():
        reason = refusal(tensor, ending)
        if reason is None:
            kept[name] = tensor
        else:
            findings.append(_left_out(reason, prefix, tensor.keys[0]))
    if ending == ".safetensors":
        new = {name: f"{name}:0" if name == METADATA else name for name in kept}
    else:
        new = harmless(kept)
        if ending != ".npz":
            beside = side_by_side(list(new.values()))
            new = {name: beside[each] for name, each in new.items()}
    for name, each in new.items():
        if each not in (name, f"{name}:0") or name == METADATA:
            message = f"is called {_short(each)} there, where {_short(name)} cannot be a name"
            findings.append(Finding("renamed", "warning", message, prefix, kept[name].keys[0]))
    return replace(content, tensors={new[name]: tensor for name, tensor in kept.items()})


def _left_out(reason: str, prefix: str, key: str) -> Finding:
    return Finding("not-exported", "warning", f"{_short(key)} is left out: {reason}", prefix, key)


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
