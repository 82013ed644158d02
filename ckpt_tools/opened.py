"""A checkpoint in Python and in notebooks: a mapping from names to lazy arrays.

>>> import ckpt_tools as ct
>>> with ct.open("best_model/exp") as checkpoint:  # doctest: +SKIP
...     checkpoint["model/item_embedding"].read()
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckpt_tools.analysis.messages.nearest import nearest
from ckpt_tools.errors import CkptError
from ckpt_tools.lineages import BestMetric, Lineage, identify
from ckpt_tools.lineages.tensor_names import Roles, tell_roles
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.readers import Checkpoint, TensorInfo, open_checkpoint
from ckpt_tools.runs.experiments import resolve

if TYPE_CHECKING:
    import numpy as np


# A notebook is kept with its outputs.
_MOST_ROWS = 200


class LazyTensor:
    """A tensor that is read when asked: its ``name`` as stored, ``dtype`` (TensorFlow's), ``shape`` and ``nbytes``."""

    def __init__(self, checkpoint: Checkpoint, info: TensorInfo) -> None:
        self._checkpoint = checkpoint
        self._info = info

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def dtype(self) -> str:
        return self._info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._info.shape

    @property
    def nbytes(self) -> int:
        return self._info.nbytes

    def read(self) -> np.ndarray:
        """The value, its checksum verified. Raises CorruptError for damage, UnsupportedError for what has no array."""
        return self._checkpoint.read(self.name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self.read()
        # The reader's array belongs to nobody else: it is a copy already.
        return value if dtype is None else value.astype(dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"<{self.dtype} {list(self.shape)} {self.name!r}>"


class OpenedCheckpoint(Mapping[str, LazyTensor]):
    """What `ckpt_tools.open` returns. Its keys are the names as stored; canonical names are understood too."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._checkpoint = open_checkpoint(resolve(path))
        self._canonical: dict[str, str] = {}
        try:
            self.lineage: Lineage | None = identify(self._checkpoint)
        except CkptError:
            # What cannot tell its producer (a missing shard, say) still lists its tensors.
            self.lineage = None
        if self.lineage:
            for name, source in self.lineage.tensors.items():
                if len(source.keys) == 1 and source.convert is None:
                    self._canonical[name] = source.keys[0]

    @property
    def path(self) -> str:
        """The prefix, or the path of the file."""
        return self._checkpoint.prefix

    @property
    def format(self) -> str:
        return self._checkpoint.format

    @property
    def step(self) -> int | None:
        """The number of updates, of whoever's checkpoint; None when it is not stored. Raises what reading raises."""
        return self.lineage.step if self.lineage else step_of(self._checkpoint, self._roles)

    @property
    def best_metric(self) -> BestMetric:
        """The best metric, under whatever name it is stored. Raises what reading raises."""
        return self.lineage.best_metric if self.lineage else best_of(self._checkpoint, self._roles)

    @cached_property
    def _roles(self) -> Roles:
        return tell_roles(self._checkpoint.tensors, self._checkpoint.graph)

    def __getitem__(self, name: str) -> LazyTensor:
        tensors = self._checkpoint.tensors
        key = name if name in tensors else self._canonical.get(name)
        if key is None:
            near = nearest(name, tensors).names
            raise KeyError(f"{name}{f' (did you mean {near[0]}?)' if near else ''}")
        return LazyTensor(self._checkpoint, tensors[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint.tensors)

    def __len__(self) -> int:
        return len(self._checkpoint.tensors)

    def to_records(self) -> list[dict[str, Any]]:
        """One plain dict for each tensor: ``name``, ``canonical``, ``dtype``, ``shape``, ``nbytes``."""
        names = {key: name for name, key in self._canonical.items()}
        return [
            {
                "name": tensor.name,
                "canonical": names.get(tensor.name),
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "nbytes": tensor.nbytes,
            }
            for tensor in self.values()
        ]

    def close(self) -> None:
        self._checkpoint.close()

    def __enter__(self) -> OpenedCheckpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<checkpoint {self.path!r}: {self.format}, {len(self)} tensors>"

    def _repr_html_(self) -> str:
        producer = self.lineage.producer if self.lineage else "producer not known"
        try:
            value = self.best_metric.value
            known = f"step {self.step} · best_metric {'absent' if value is None else f'{value:.6f}'}"
        except CkptError as error:
            # What cannot be read still lists its tensors.
            known = str(error)
        facts = f"{self.format} · {producer} · {known}"
        records = self.to_records()
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(cell))}</td>" for cell in record.values()) + "</tr>"
            for record in records[:_MOST_ROWS]
        )
        if len(records) > _MOST_ROWS:
            rows += f"<tr><td colspan=5>… and {len(records) - _MOST_ROWS} more: to_records() has all</td></tr>"
        head = "".join(f"<th>{name}</th>" for name in ("name", "canonical", "dtype", "shape", "bytes"))
        title = f"<b>{html.escape(self.path)}</b><br>{html.escape(facts)}"
        return f"<div>{title}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
