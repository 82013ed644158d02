"""The original ComiRec trainer: TensorFlow 1, ``tf.train.Saver``, names instead of an object graph.

Source of the names: github.com/THUDM/ComiRec, src/model.py, and checkpoints that it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ckpt_tools.lineages import base
from ckpt_tools.lineages.base import Source
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage, name_hyper
from ckpt_tools.lineages.comirec.models import OLD_MEANING, model_type_of, shape_hyper
from ckpt_tools.lineages.names import BEST_METRIC, moment_name
from ckpt_tools.readers.base import Checkpoint

if TYPE_CHECKING:
    import numpy as np

ID = "comirec-tf1"

_PLAIN = {
    "model/item_embedding": "mid_embedding_var",
    "model/item_bias": "bias_lookup_table",
    "model/proj/kernel": "dense/kernel",
    "model/proj/bias": "dense/bias",
    "model/capsule/bilinear/kernel": "capsule_network/bilinear/dense/kernel",
    "model/capsule/bilinear/bias": "capsule_network/bilinear/dense/bias",
    "model/capsule/proj/kernel": "capsule_network/proj/kernel",
    "model/capsule/proj/bias": "capsule_network/proj/bias",
    "model/capsule/weights": "capsule_network/bilinear/weights",
    "model/position_embedding": "position_embedding",
    "model/attention/hidden/kernel": "self_atten/dense/kernel",
    "model/attention/hidden/bias": "self_atten/dense/bias",
    "model/attention/heads/kernel": "self_atten/dense_1/kernel",
    "model/attention/heads/bias": "self_atten/dense_1/bias",
}
_GATES, _CANDIDATE = "gru1/gru_cell/gates", "gru1/gru_cell/candidate"
# TensorFlow 1's Adam calls the first moment "Adam" and the second "Adam_1".
_SLOTS = {"m": "/Adam", "v": "/Adam_1"}
_SMALLEST_NORMAL = 2.0**-126


def _reorder(gates: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """TF 1's (reset, update) and candidate columns as one array in the order update (z), reset (r), candidate (h)."""
    import numpy as np

    reset, update = np.split(gates, 2, axis=-1)
    return np.concatenate([update, reset, candidate], axis=-1)


def _input_rows(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The rows that see the input: the last H rows of both kernels see the state."""
    gates, candidate = arrays
    inputs = candidate.shape[0] - candidate.shape[1]
    return _reorder(gates[:inputs], candidate[:inputs])


def _state_rows(arrays: Sequence[np.ndarray]) -> np.ndarray:
    gates, candidate = arrays
    inputs = candidate.shape[0] - candidate.shape[1]
    return _reorder(gates[inputs:], candidate[inputs:])


def _both(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return _reorder(*arrays)


_GRU = {
    "model/gru/kernel": ("kernel", _input_rows),
    "model/gru/recurrent_kernel": ("kernel", _state_rows),
    "model/gru/bias": ("bias", _both),
}


def describe(checkpoint: Checkpoint, fields: Mapping[str, Any]) -> ComiRecLineage | None:
    """The lineage, or None when the tensors are not those of the original trainer."""
    stored = checkpoint.tensors
    if checkpoint.graph is not None or not {"mid_embedding_var", "beta1_power", "beta2_power"} <= stored.keys():
        return None
    tensors: dict[str, Source] = {}
    for slot, suffix in (("", ""), *_SLOTS.items()):
        for name, key in _PLAIN.items():
            if key + suffix in stored:
                tensors[_slot_name(name, slot)] = Source((key + suffix,))
        for name, (part, convert) in _GRU.items():
            keys = tuple(f"{cell}/{part}{suffix}" for cell in (_GATES, _CANDIDATE))
            if stored.keys() >= set(keys):
                tensors[_slot_name(name, slot)] = Source(keys, convert)
    model_type = model_type_of(tensors)
    if model_type is None:
        return None
    hyper, sources = shape_hyper(checkpoint, tensors, model_type)
    name_hyper(hyper, sources, fields)
    best_key = BEST_METRIC if BEST_METRIC in stored else None
    if best_key:
        tensors[BEST_METRIC] = Source((best_key,))
    step = step_from_power(float(base.scalar(checkpoint, "beta2_power")), 0.999)
    return ComiRecLineage(
        id=ID,
        producer="original ComiRec trainer, TensorFlow 1",
        variant="paper",
        model_type=model_type,
        hyper=hyper,
        sources=sources,
        step=step,
        tensors=tensors,
        best_metric=base.read_best_metric(checkpoint, best_key, OLD_MEANING),
    )


def _slot_name(name: str, slot: str) -> str:
    return moment_name(slot, name) if slot else name


def step_from_power(power: float, beta: float) -> int | None:
    """Adam's number of updates t from beta^(t + 1), as TF 1 keeps it: multiplied up in float32, once an update.

    None when the power has run out of float32's normal range (after some 87,000 updates for beta = 0.999):
    then the number is not known, and the bias correction is 1.
    """
    if not _SMALLEST_NORMAL < power < 1:
        return None
    # Multiplied up again rather than by logarithm: the rounding of so many products adds up to whole steps.
    beta = current = base.float32(beta)
    step = 0
    while (following := base.float32(current * beta)) >= power:
        current = following
        step += 1
    # A power that was rounded in another way lies between two of ours: the nearer one is meant.
    return step if current / power < power / following else step + 1
