"""A checkpoint in Python and in notebooks: a mapping from names to lazy arrays.

>>> import ckpt_tools as ct
>>> with ct.open("best_model/exp") as checkpoint:  # doctest: +SKIP
...     checkpoint["model/item_embedding"][:2]
"""

from __future__ import annotations

import fnmatch
import html
import math
import operator
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckpt_tools.analysis.inspection import Inspection, Tensor, describe
from ckpt_tools.analysis.messages.nearest import find_nearest
from ckpt_tools.errors import CkptError, UnsupportedError, UsageError
from ckpt_tools.lineages import BestMetric, Lineage, identify
from ckpt_tools.lineages.tensor_names import Roles, tell_roles
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.readers import Checkpoint, TensorInfo
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect
from ckpt_tools.runs.opening import open_meant

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]


# A notebook is kept with its outputs.
_MOST_ROWS = 200


class ClosedError(UsageError, ValueError):
    """The checkpoint was closed; a ValueError too, as of a file that was."""


class LazyTensor:
    """A tensor that is read when asked: all of it by `read`, some rows of it by ``tensor[:2]``, as numpy indexes."""

    def __init__(self, opened: OpenedCheckpoint, info: TensorInfo) -> None:
        self._opened = opened
        self._info = info

    @property
    def name(self) -> str:
        """As it is stored."""
        return self._info.name

    @property
    def dtype(self) -> str:
        """TensorFlow's name of it, ``float32`` or ``string``."""
        return self._info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._info.shape

    @property
    def ndim(self) -> int:
        return len(self._info.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self._info.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the value; of strings, the stored ones."""
        return self._info.nbytes

    def read(self) -> np.ndarray:
        """The value, its checksum verified. Raises CorruptError for damage, UnsupportedError for what has no array."""
        return self._opened._open.read(self.name)

    def to_numpy(self) -> np.ndarray:
        """The same as `read`, under the name that pandas and polars have for it."""
        return self.read()

    def __getitem__(self, index: Any) -> Any:
        """What numpy gives for ``read()[index]``, of which only those rows are read that the first place of it names.

        That is a number, a list of numbers, or a slice (then all from its first to its last row); anything else, as a
        mask, reads all. A checksum is one of the whole value, so that it is not compared when less is read. Strings,
        files of version 1 and what an archive has packed are read as a whole in any case.

        Raises IndexError outside of the shape, and what `read` raises.
        """
        import numpy as np

        first, *rest = index if isinstance(index, tuple) and index else (index,)
        choice = _choose(first, self.shape[0]) if self.shape else None
        if choice is None:
            return self.read()[index]
        ranges, among = choice
        if sum(map(len, ranges)) == self.shape[0]:
            return self.read()[index]
        parts = [self._opened._open.rows(self.name, each.start, len(each)) for each in ranges]
        place = (among, *rest)
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[place]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a scalar has no length")
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self.read()
        # The reader's array belongs to nobody else: it is a copy already.
        return value if dtype is None else value.astype(dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"<{self.dtype} {list(self.shape)} {self.name!r}>"


class OpenedCheckpoint(Mapping[str, LazyTensor]):
    """What `ckpt_tools.open` returns. Its keys are the names as stored; canonical names are understood too."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._asked = os.fspath(path)
        self._checkpoint = open_meant(path)
        self._closed = False
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
        return self.lineage.step if self.lineage else step_of(self._open, self._roles)

    @property
    def best_metric(self) -> BestMetric:
        """The best metric, under whatever name it is stored. Raises what reading raises."""
        return self.lineage.best_metric if self.lineage else best_of(self._open, self._roles)

    @property
    def history(self) -> Curve:
        """The evaluations of the run of ComiRec that it lies in, of all its logs, joined; without points for others."""
        experiment = Experiment.containing(self._open.prefix)
        return collect(experiment).curve if experiment else Curve()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What ``ckpt inspect`` says of each tensor: group (model, average, optimizer, state), canonical name, ..."""
        return self._inspection.tensors

    def glob(self, pattern: str) -> list[LazyTensor]:
        """The tensors whose stored or canonical name matches, as ``ckpt inspect --filter`` finds them; may be none."""
        names = {key: name for name, key in self._canonical.items()}
        return [
            tensor
            for key, tensor in self.items()
            if any(fnmatch.fnmatchcase(name, pattern) for name in (key, names.get(key, "")))
        ]

    @cached_property
    def _inspection(self) -> Inspection:
        return describe(self._open, self._asked)

    @cached_property
    def _roles(self) -> Roles:
        return tell_roles(self._open.tensors, self._open.graph)

    @property
    def _open(self) -> Checkpoint:
        if self._closed:
            raise ClosedError("the checkpoint was closed", path=self.path, hint="open it again, with ckpt_tools.open")
        return self._checkpoint

    def __getitem__(self, name: str) -> LazyTensor:
        tensors = self._open.tensors
        key = name if name in tensors else self._canonical.get(name)
        if key is None:
            near = find_nearest(name, tensors).names
            raise KeyError(f"{name}{f' (did you mean {near[0]}?)' if near else ''}")
        return LazyTensor(self, tensors[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._open.tensors)

    def __len__(self) -> int:
        return len(self._open.tensors)

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

    def to_numpy(self, pattern: str = "*") -> dict[str, np.ndarray]:
        """The values of the tensors that `glob` finds, by stored name, each verified. Raises what `read` raises."""
        return {tensor.name: tensor.read() for tensor in self.glob(pattern)}

    def to_pandas(self) -> pd.DataFrame:
        """`to_records` as a table. Raises UnsupportedError without pandas, which is no dependency."""
        try:
            import pandas as pd
        except ImportError as error:
            raise UnsupportedError("a DataFrame needs pandas", hint="pip install pandas") from error
        return pd.DataFrame(self.to_records())

    def close(self) -> None:
        """From now on only the path and the format can be asked for; all else raises `ClosedError`."""
        self._closed = True
        self._checkpoint.close()

    def __enter__(self) -> OpenedCheckpoint:
        self._open  # noqa: B018
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        what = "closed" if self._closed else f"{len(self)} tensors"
        return f"<checkpoint {self.path!r}: {self.format}, {what}>"

    def _repr_html_(self) -> str:
        if self._closed:
            return html.escape(repr(self))
        found = self._inspection
        producer = found.lineage.producer if found.lineage else "producer not known"
        value = found.best_metric.value
        facts = [found.format, producer, f"step {found.step}"]
        facts.append(f"best_metric {'absent' if value is None else f'{value:.6f}'}")
        history = self.history
        if history.best is not None:
            best = history.points[history.best]
            facts.append(f"best of {len(history.points)} logged evaluations {best.recall:.6f} at step {best.step}")
        title = f"<b>{html.escape(self.path)}</b><br>{html.escape(' · '.join(facts))}"
        said = "".join(
            f"<li>{html.escape(f'{each.severity}: {each.message}')}</li>" for each in found.findings[:_MOST_ROWS]
        )
        rows, left = "", _MOST_ROWS
        for group in dict.fromkeys(tensor.group for tensor in found.tensors):
            members = [tensor for tensor in found.tensors if tensor.group == group]
            rows += f"<tbody><tr><th colspan=5>{group}: {len(members)} of {len(found.tensors)} tensors</th></tr>"
            for tensor in members[: max(0, left)]:
                cells = (tensor.name, tensor.canonical, tensor.dtype, list(tensor.shape), tensor.nbytes)
                rows += "<tr>" + "".join(f"<td>{html.escape(_cell(cell))}</td>" for cell in cells) + "</tr>"
            left -= len(members)
            rows += "</tbody>"
        if left < 0:
            rows += f"<tr><td colspan=5>… and {-left} more: to_records() has all</td></tr>"
        head = "".join(f"<th>{name}</th>" for name in ("name", "canonical", "dtype", "shape", "bytes"))
        return f"<div>{title}<ul>{said}</ul><table><thead><tr>{head}</tr></thead>{rows}</table></div>"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _choose(first: Any, count: int) -> tuple[list[range], Any] | None:
    """Which of ``count`` rows the first part of an index names, as ranges, and the index of the same among these alone.

    None where it is neither a number, nor a slice, nor a list of numbers. Raises IndexError.
    """
    import numpy as np

    if isinstance(first, slice):
        chosen = range(*first.indices(count))
        if not chosen:
            return [range(0)], slice(None)
        return [range(min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1)], slice(None, None, chosen.step)
    if first is None or first is Ellipsis or isinstance(first, (bool, np.bool_)):
        return None
    if isinstance(first, (list, np.ndarray)):
        numbers = np.asarray(first)
        if not numbers.size or numbers.dtype.kind not in "iu":
            return None
        places = numbers.astype(np.int64)
        for outermost in (places.min(), places.max()):
            _row(int(outermost), count)
        distinct, among = np.unique(np.where(places < 0, places + count, places), return_inverse=True)
        runs = np.split(distinct, np.flatnonzero(np.diff(distinct) > 1) + 1)
        return [range(int(run[0]), int(run[-1]) + 1) for run in runs], among.reshape(numbers.shape)
    row = _row(operator.index(first), count)
    return [range(row, row + 1)], 0


def _row(number: int, count: int) -> int:
    if not -count <= number < count:
        raise IndexError(f"row {number} of {count}")
    return number % count
