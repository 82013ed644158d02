"""SavedModel directories: a tensor bundle called ``variables/variables``.

DIRECTORY/saved_model.pb (or .pbtxt)   graphs and signatures; never opened, for they are programs
DIRECTORY/variables/variables.index    the bundle; its object graph is inside
"""

from __future__ import annotations

import os

from ckpt_tools import places
from ckpt_tools.readers.bundle import Bundle

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
VARIABLES = os.path.join("variables", "variables")


class SavedModel(Bundle):
    """The variables of a SavedModel; ``prefix`` is that of the bundle."""

    def __init__(self, directory: str) -> None:
        super().__init__(os.path.join(directory, VARIABLES))

    @property
    def format(self) -> str:
        return "saved-model"


def is_saved_model(directory: str) -> bool:
    return any(places.has_file(os.path.join(directory, name)) for name in _MODEL_FILES)


def has_variables(directory: str) -> bool:
    return places.has_file(os.path.join(directory, f"{VARIABLES}.index"))
