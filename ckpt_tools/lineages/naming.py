"""The tensors of any checkpoint under names that two checkpoints can be compared by.

A known lineage gives canonical names. For everything else the name is the path in the object graph, or the stored
name, without what only tells how it was stored:

    dense/kernel/.ATTRIBUTES/VARIABLE_VALUE      dense/kernel      TensorFlow 2
    dense/kernel:0                               dense/kernel      TensorFlow 1
    model_weights/dense/dense/kernel:0           dense/kernel      Keras 2 in HDF5
    layers\\dense/vars/0                         layers/dense/vars/0  Keras 2.12 to 2.14 on Windows
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.lineages import Lineage, identify
from ckpt_tools.lineages.tensor_names import Group, bare, tell_roles
from ckpt_tools.readers import Bundle, Checkpoint

if TYPE_CHECKING:
    import numpy as np

KERAS_FILES = ("keras-h5", "keras-weights-h5", "keras-zip")

_HDF5_ROOTS = ("model_weights/", "optimizer_weights/")
_TWICE = re.compile(r"(?P<layer>[^/]+)/(?P=layer)/")


@dataclass(frozen=True)
class Named:
    """A tensor under a name: where it is stored, its stored type and shape, and how to read its value.

    ``read`` may convert (one canonical tensor of several stored ones): then its type and shape are those of the
    result, and ``stored`` is False. The rest is what it may be known by in another checkpoint: ``canonical`` where
    its producer is known, ``places`` (its key and its path in the object graph), ``full_name`` (what its variable was
    created with), ``names`` (all of these, without what only tells how they are stored); and what it is: its
    ``group``, the key of the variable that it belongs to (``owner``), and as which ``slot``.
    ``digest`` is of the stored bytes, also of types that no array has; ``pieces`` those of each piece, by where it
    belongs, of a tensor of which only a part is here (else it says None).
    """

    name: str
    keys: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    stored: bool
    read: Callable[[], np.ndarray]
    canonical: str | None = None
    places: tuple[str, ...] = ()
    full_name: str = ""
    names: tuple[str, ...] = ()
    group: Group = "model"
    owner: str | None = None
    slot: str | None = None
    digest: Callable[[], str] | None = None
    pieces: Callable[[], Mapping[Any, str] | None] | None = None


def by_canonical_name(checkpoint: Checkpoint) -> dict[str, Named]:
    """All tensors, canonical names first; the rest under the names described above. Sorted."""
    lineage = identify(checkpoint)
    graph = checkpoint.graph
    paths = graph.paths if graph else {}
    roles = tell_roles(checkpoint.tensors, graph)

    def known_by(key: str) -> dict[str, Any]:
        """What a stored tensor may be known by elsewhere."""
        # A key that is its own path says more than another, shorter way to the same object.
        own = key.removesuffix(VALUE_SUFFIX)
        path = with_slashes(checkpoint, own if graph and graph.child(own) else paths.get(key, key))
        full_name, role = roles.full_names.get(key, ""), roles.roles[key]
        return {
            "places": tuple(dict.fromkeys((with_slashes(checkpoint, own), path.removesuffix(VALUE_SUFFIX)))),
            "full_name": full_name,
            "names": tuple(dict.fromkeys(text for text in (neutral(path), bare(key), full_name) if text)) or (key,),
            "group": role.group,
            "owner": role.of,
            "slot": role.slot,
            "digest": lambda: _stored_digest(checkpoint, key),
            "pieces": lambda: checkpoint.pieces(key) if isinstance(checkpoint, Bundle) else None,
        }

    found: dict[str, Named] = {}
    taken: set[str] = set()
    for name, source in lineage.tensors.items() if lineage else ():
        taken |= set(source.keys)
        info = checkpoint.tensors[source.keys[0]]
        read = _reader(checkpoint, lineage, name)
        stored = source.convert is None
        more = known_by(source.keys[0]) if stored else {}
        more["names"] = (name, *more.get("names", ()))
        found[name] = Named(name, source.keys, info.dtype, info.shape, stored, read, canonical=name, **more)
    for key, info in checkpoint.tensors.items():
        if key not in taken:
            more = known_by(key)
            name = more["names"][0]
            name = name if name not in found else key
            found[name] = Named(name, (key,), info.dtype, info.shape, True, _stored_reader(checkpoint, key), **more)
    return dict(sorted(found.items()))


def by_stored_name(checkpoint: Checkpoint) -> dict[str, Named]:
    """All tensors under their keys."""
    return {
        key: Named(key, (key,), info.dtype, info.shape, True, _stored_reader(checkpoint, key))
        for key, info in checkpoint.tensors.items()
    }


def neutral(key: str) -> str:
    """A stored name without what tells only how it was stored."""
    name = key.removesuffix(VALUE_SUFFIX)
    name = re.sub(r":\d+$", "", name)
    for root in _HDF5_ROOTS:
        if name.startswith(root):
            name = name.removeprefix(root)
            return _TWICE.sub(r"\g<layer>/", name, count=1)
    return name


def with_slashes(checkpoint: Checkpoint, name: str) -> str:
    r"""The name with ``/`` where Keras 2.12 to 2.14 on Windows wrote ``\``, which no Keras finds again.

    Only in files of Keras: elsewhere it is a letter like others. A name that another tensor has is not taken.
    """
    if checkpoint.format not in KERAS_FILES or "\\" not in name:
        return name
    new = name.replace("\\", "/")
    return name if new in checkpoint.tensors else new


def _reader(checkpoint: Checkpoint, lineage: Lineage | None, name: str) -> Callable[[], np.ndarray]:
    assert lineage is not None
    return lambda: lineage.read(checkpoint, name)


def _stored_digest(checkpoint: Checkpoint, key: str) -> str:
    import hashlib  # only when it is asked for

    digest = hashlib.sha256()
    for chunk in checkpoint.chunks(key):
        digest.update(chunk)
    return digest.hexdigest()


def _stored_reader(checkpoint: Checkpoint, key: str) -> Callable[[], np.ndarray]:
    return lambda: checkpoint.read(key)
