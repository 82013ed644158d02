"""The same training step in PyTorch, as one writes it there: a contender of ``step_twins``. Needs torch, CPU.

``nn.Embedding(sparse=True)`` with ``SparseAdam`` for the item table, ``Adam`` for the rest (fused, its fastest), the
library's layers. SparseAdam leaves rows alone that a batch does not read, which is less work than Adam's trajectory:
from the second step on it computes something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainer.config import TrainConfig
from trainer.data.sampling import Batch

ITERATIONS = 3


class Torch:
    def __init__(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> None:
        self._config = config
        self._items = nn.Embedding(config.item_count, config.embedding_dim, sparse=True)
        self._bias = torch.tensor(variables["model/item_bias"])
        self._layers, self._capsule_map = _layers(config, variables)
        with torch.no_grad():
            self._items.weight.copy_(torch.tensor(variables["model/item_embedding"]))
        rest = [*self._layers.parameters(), *([] if self._capsule_map is None else [self._capsule_map])]
        self._optimizers = [
            torch.optim.SparseAdam(self._items.parameters(), lr=config.learning_rate),
            torch.optim.Adam(rest, lr=config.learning_rate, eps=config.adam_epsilon, fused=True),
        ]

    def step(self, batch: Batch) -> float:
        config = self._config
        history, target, sampled = (
            torch.from_numpy(ids.astype(np.int64)) for ids in (batch.history, batch.target, batch.sampled)
        )
        mask = torch.from_numpy(batch.mask)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        wanted = self._items(torch.zeros_like(target)) if config.reads_by_padding else None
        vector = self._vector(self._items(history), mask, wanted)
        true = (vector * self._items(target)).sum(1) + self._bias[target]
        others = vector @ self._items(sampled).T + self._bias[sampled]
        true = true - torch.from_numpy(batch.target_count[:, 0]).log()
        others = others - torch.from_numpy(batch.sampled_count).log()
        others = others.masked_fill(target[:, None] == sampled, -1e30)
        logits = torch.cat([true[:, None], others], dim=1)
        loss = functional.cross_entropy(logits, torch.zeros_like(target))
        loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
        return float(loss)

    compared = step

    def _vector(self, items: torch.Tensor, mask: torch.Tensor, wanted: torch.Tensor | None) -> torch.Tensor:
        """What the loss compares with items [B, D], out of the history [B, L, D]."""
        kind = self._config.model_type
        if kind == "DNN":
            mean = (items * mask[:, :, None]).sum(1) / (mask.sum(1, keepdim=True) + 1e-9)
            found: torch.Tensor = self._layers[0](mean)
            return found
        if kind == "GRU4REC":
            packed = nn.utils.rnn.pack_padded_sequence(
                items, mask.sum(1).long(), batch_first=True, enforce_sorted=False
            )
            last: torch.Tensor = self._layers[0](packed)[1][0]
            return last
        assert wanted is not None
        if kind == "ComiRec-SA":
            hidden, heads = self._layers
            logits = heads(torch.tanh(hidden(items))).transpose(1, 2)
            interests = logits.masked_fill(mask[:, None, :] == 0, -1e9).softmax(2) @ items
            nearness = (interests * wanted[:, None, :]).sum(2).softmax(1)
            return (nearness[:, :, None] * interests).sum(1)
        interests = self._routed(items, mask)
        if kind == "MIND" and self._config.relu_projection:
            interests = self._layers[1](interests).relu()
        nearest = (interests * wanted[:, None, :]).sum(2).argmax(1)
        return interests[torch.arange(len(nearest)), nearest]

    def _routed(self, items: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Interests [B, K, D] by dynamic routing."""
        users, length, dim = items.shape
        if self._capsule_map is None:
            votes = self._layers[0](items)[:, None].expand(users, self._config.num_interest, length, dim)
        else:
            # One matrix product for each position.
            votes = torch.bmm(items.transpose(0, 1), self._capsule_map[0].transpose(1, 2))
            votes = votes.view(length, users, self._config.num_interest, dim).permute(1, 2, 0, 3)
        fixed = votes.detach()
        logits = torch.zeros(votes.shape[:3])
        for iteration in range(ITERATIONS):
            shares = logits.softmax(1) * mask[:, None, :]
            last = iteration == ITERATIONS - 1
            capsules = torch.einsum("bkl,bkld->bkd", shares, votes if last else fixed)
            norm = (capsules * capsules).sum(2, keepdim=True)
            capsules = capsules * (norm / (1 + norm) / torch.sqrt(norm + 1e-9))
            if not last:
                logits = logits + torch.einsum("bkld,bkd->bkl", fixed, capsules)
        return capsules


def _layers(config: TrainConfig, variables: Mapping[str, np.ndarray]) -> tuple[nn.ModuleList, nn.Parameter | None]:
    dim, interests = config.embedding_dim, config.num_interest
    if config.model_type == "ComiRec-DR":
        return nn.ModuleList(), nn.Parameter(torch.tensor(variables["model/capsule/weights"]))
    if config.model_type == "GRU4REC":
        return nn.ModuleList([_gru(dim, variables)]), None
    if config.model_type == "DNN":
        layers = {"model/proj": nn.Linear(dim, dim)}
    elif config.model_type == "MIND":
        layers = {"model/capsule/bilinear": nn.Linear(dim, dim, bias=False)}
        if config.relu_projection:
            layers["model/capsule/proj"] = nn.Linear(dim, dim)
    else:
        hidden = 4 * dim
        layers = {
            "model/attention/hidden": nn.Linear(dim, hidden),
            "model/attention/heads": nn.Linear(hidden, interests),
        }
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(torch.tensor(variables[f"{name}/kernel"].T))
            if layer.bias is not None:
                layer.bias.copy_(torch.tensor(variables[f"{name}/bias"]))
    return nn.ModuleList(layers.values()), None


def _gru(dim: int, variables: Mapping[str, np.ndarray]) -> nn.GRU:
    """Keras has update, reset, candidate; torch has reset, update, candidate."""

    def turned(columns: np.ndarray) -> torch.Tensor:
        update, reset, candidate = np.split(columns, 3, axis=-1)
        return torch.tensor(np.concatenate([reset, update, candidate], axis=-1).T)

    gru: Any = nn.GRU(dim, dim, batch_first=True)
    bias = variables["model/gru/bias"]
    with torch.no_grad():
        gru.weight_ih_l0.copy_(turned(variables["model/gru/kernel"]))
        gru.weight_hh_l0.copy_(turned(variables["model/gru/recurrent_kernel"]))
        gru.bias_ih_l0.copy_(turned(bias[0]))
        gru.bias_hh_l0.copy_(turned(bias[1]))
    return gru
