"""A model of the original trainer as its own graph computes it: the vectors of users come from ``model.ckpt.meta``.

Which node of the graph makes them, no name says; but TensorFlow's own loss takes them, or, of several interests, the
one that a gather reads out of them (THUDM/ComiRec, src/model.py, build_sampled_softmax_loss).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ckpt_tools.errors import MismatchError, UnsupportedError
from ckpt_tools.format.graph_def import Node, Output
from ckpt_tools.graphs.interpreter import Interpreter, draws_in
from ckpt_tools.graphs.order import plan
from trainer.evaluation.measuring import Ranked

HISTORY, MASK = Output("Inputs/mid_his_batch_ph"), Output("Inputs/mask_batch_ph")
_LOSS = "sampled_softmax_loss/MatMul"


class GraphModel:
    """Ranks as ``model`` does, with the vectors that the graph gives.

    ``model`` is the same model over numpy weights: it says what its trainer did with the padding item, and gives the
    noise that MIND's routing starts from, which the graph is fed in place of its own draw.
    """

    def __init__(self, model: Ranked, interpreter: Interpreter) -> None:
        self._model = model
        self._interpreter = interpreter
        self._vectors = user_vectors_in(interpreter.nodes)
        self._draws = _draws(interpreter.nodes, self._vectors)

    @property
    def excludes_padding(self) -> bool:
        return self._model.excludes_padding

    @property
    def padding_takes_a_place(self) -> bool:
        return self._model.padding_takes_a_place

    @property
    def item_embedding(self) -> np.ndarray:
        return np.asarray(self._model.item_embedding)

    def noise_shape(self, maxlen: int) -> tuple[int, int] | None:
        """Interests and items of history that the graph draws for a user; None for one that draws nothing.

        Raises UnsupportedError for a draw of another form, and what `Interpreter.run` raises.
        """
        if not self._draws:
            return None
        shape = self._interpreter.nodes[self._draws[0]].inputs[0]
        nobody = np.zeros((1, maxlen), np.int32)
        (found,) = self._interpreter.run([shape], {HISTORY: nobody, MASK: nobody.astype(np.float32)})
        if found.size != 3:
            raise UnsupportedError(f"{self._draws[0]} draws what is no noise of a routing")
        return int(found[1]), int(found[2])

    def noise(self, seed: int, index: int, users: int) -> np.ndarray | None:
        return self._model.noise(seed, index, users)

    def user_vectors(self, history: np.ndarray, mask: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """float32 [B, K, D].

        Raises what `Interpreter.run` raises, MismatchError for what are no vectors of users, UnsupportedError for a
        graph that draws more than the noise.
        """
        feeds = {HISTORY: history, MASK: mask}
        if self._draws:
            if noise is None or len(self._draws) > 1:
                raise UnsupportedError(f"the graph draws random numbers in {', '.join(self._draws)}")
            feeds[Output(self._draws[0])] = noise
        (found,) = self._interpreter.run([self._vectors], feeds)
        vectors = found[:, None, :] if found.ndim == 2 else found
        if vectors.ndim != 3 or len(vectors) != len(history) or vectors.shape[2] != self.item_embedding.shape[1]:
            raise MismatchError(
                f"{self._vectors} gives {list(found.shape)}, which are no vectors of {len(history)} users"
            )
        return vectors


def user_vectors_in(nodes: Mapping[str, Node]) -> Output:
    """Which output of a graph are the vectors of users. Raises UnsupportedError for a graph of another trainer."""
    loss = nodes.get(_LOSS)
    if loss is None or not loss.inputs or HISTORY.node not in nodes or MASK.node not in nodes:
        raise UnsupportedError("the graph is not that of the original ComiRec trainer")
    taken = loss.inputs[0]
    read_out = nodes.get(taken.node)
    if read_out is not None and read_out.op in ("Gather", "GatherV2") and read_out.inputs:
        flat = nodes.get(read_out.inputs[0].node)
        if flat is not None and flat.op == "Reshape" and flat.inputs:
            return flat.inputs[0]
    return taken


def _draws(nodes: Mapping[str, Node], wanted: Output) -> list[str]:
    return draws_in(nodes, list(plan(nodes, [wanted], [HISTORY, MASK]).frames))
