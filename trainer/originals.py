"""How the older trainers train and measure, as far as none of their checkpoints tell. Needs no TensorFlow.

Sources: src/model.py and src/train.py of THUDM/ComiRec at a576eed (TensorFlow 1.15) and of its Keras port,
LittleGreen3/comirec at 7ef7366 and 48bc6fa, with the optimizers of TensorFlow 2.10, 2.15 and Keras 3.

Both give the interests' lists one place each to item 0, the padding, before they drop it. The port hands item 0 to the
readout where the original hands it the target (``dummy_mid``), and waits twice as long for models with several
interests. Keras 3 does not add up the gradients of a row that occurs several times in a batch before it squares them
(keras/src/optimizers/adam.py with ``tf.IndexedSlices``); Keras 2 and TensorFlow 1 do.
"""

from __future__ import annotations

from typing import Any

MULTI_INTEREST = ("MIND", "ComiRec-DR", "ComiRec-SA")
# The older trainer that each variant of the models comes from.
TRAINERS = {"paper": "comirec-tf1", "keras": "comirec-keras3"}
TOP_N = 50
PATIENCE = 50
PATIENCE_OF_THE_PORT = 100


def habits(lineage: str, model_type: str) -> dict[str, Any]:
    """Hyper-parameters by name, of a lineage by its id; empty for one that is not of an older trainer."""
    if lineage == "comirec-tf1":
        return {
            "readout": "target",
            "adam_epsilon": 1e-8,
            "repeated_rows": "summed",
            "padding_place": True,
            "patience": PATIENCE,
        }
    if not lineage.startswith("comirec-keras"):
        return {}
    several = model_type in MULTI_INTEREST
    return {
        "readout": readout_of_the_port(model_type),
        "adam_epsilon": 1e-7,
        "repeated_rows": "apart" if lineage == "comirec-keras3" else "summed",
        "padding_place": True,
        "patience": PATIENCE_OF_THE_PORT if several else PATIENCE,
    }


def readout_of_the_port(model_type: str) -> str:
    if model_type == "ComiRec-SA":
        return "soft-padding"
    return "padding" if model_type in MULTI_INTEREST else "target"
