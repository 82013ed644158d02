"""SavedModel directories: a tensor bundle called ``variables/variables``.

DIRECTORY/saved_model.pb (or .pbtxt)   graphs and signatures; never opened, for they are programs
DIRECTORY/variables/variables.index    the bundle; its object graph is inside
DIRECTORY/keras_metadata.pb            Keras 2.5 to 2.15: which class each layer is of

    SavedMetadata  nodes=1{node_id=2 node_path=3 identifier=4 metadata=5 (JSON)}

Source: keras/protobuf/saved_metadata.proto.
"""

from __future__ import annotations

import os
from functools import cached_property

from ckpt_tools.errors import CkptError
from ckpt_tools.format import json_text
from ckpt_tools.format.filenames import index_name
from ckpt_tools.format.wire import fields
from ckpt_tools.fs import paths
from ckpt_tools.readers.bundle import Bundle

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
VARIABLES = os.path.join("variables", "variables")
_METADATA = "keras_metadata.pb"
_MAX_METADATA_BYTES = 64 << 20


class SavedModel(Bundle):
    """The variables of a SavedModel; ``prefix`` is that of the bundle."""

    def __init__(self, directory: str, *, file: paths.File | None = None) -> None:
        super().__init__(os.path.join(directory, VARIABLES), file=file)
        self._directory = directory

    @property
    def format(self) -> str:
        return "saved-model"

    @cached_property
    def classes(self) -> dict[str, str]:
        """The class of each layer by its path in the object graph, ``a/b/c``; empty when no file tells."""
        path = os.path.join(self._directory, _METADATA)
        try:
            return classes_in(paths.read_file(path, limit=_MAX_METADATA_BYTES)) if paths.exists(path) else {}
        except CkptError:
            return {}


def classes_in(data: bytes) -> dict[str, str]:
    """The classes that a ``keras_metadata.pb`` tells. Raises CorruptError when it is none."""
    found: dict[str, str] = {}
    for node in fields(data):
        if node.number != 1:
            continue
        texts = {part.number: part.text() for part in fields(node.content()) if part.number in (3, 4, 5)}
        path, identifier = texts.get(3, ""), texts.get(4, "")
        if identifier.startswith("_tf_keras_") and identifier != "_tf_keras_metric" and path.startswith("root"):
            name = _class_name(texts.get(5, ""))
            if name:
                found[path.removeprefix("root").lstrip(".").replace(".", "/")] = name
    return found


def _class_name(metadata: str) -> str | None:
    try:
        document = json_text.parse(metadata)
    except ValueError:
        return None
    name = document.get("class_name") if isinstance(document, dict) else None
    # A registered class is called PACKAGE>CLASS.
    return name.rsplit(">", 1)[-1] if isinstance(name, str) else None


def is_saved_model(directory: str) -> bool:
    return any(paths.has_file(os.path.join(directory, name)) for name in _MODEL_FILES)


def has_variables(directory: str) -> bool:
    return paths.has_file(os.path.join(directory, index_name(VARIABLES)))
