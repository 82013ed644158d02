"""Operations that move elements, and those about shapes. They compute nothing, and convert nothing.

Source: tensorflow/core/ops/array_ops.cc and data_flow_ops.cc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format.graph_def import TensorBytes
from ckpt_tools.format.tensor_proto import decode_tensor
from ckpt_tools.graphs.call import Call, Op
from ckpt_tools.graphs.ops.elementwise import same_type


def whole(array: np.ndarray) -> int:
    """The integer in a scalar, or in an array of one. Raises ValueError for anything else."""
    if array.size != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{array.dtype} {list(array.shape)} is no whole number")
    return int(array.reshape(()))


def wholes(array: np.ndarray) -> list[int]:
    """The integers in a vector. Raises ValueError for anything else."""
    if array.ndim > 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{array.dtype} {list(array.shape)} is no row of whole numbers")
    return [int(each) for each in array.ravel()]


def _axis(value: int, rank: int) -> int:
    if not -rank <= value < rank:
        raise ValueError(f"axis {value} is none of {rank} dimensions")
    return value % rank


def _const(call: Call) -> np.ndarray:
    stored = call.node.attributes.get("value")
    if not isinstance(stored, TensorBytes):
        raise CorruptError("a constant without a value")
    found = decode_tensor(stored.data, limit=call.budget.limits.value_bytes)
    native: np.ndarray = found.astype(found.dtype.newbyteorder("="), copy=False)
    return native


def _shape(call: Call, x: np.ndarray) -> np.ndarray:
    return np.asarray(x.shape, call.dtype("out_type", "int32"))


def _shapes(call: Call, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(_shape(call, each) for each in inputs)


def _size(call: Call, x: np.ndarray) -> np.ndarray:
    return np.asarray(x.size, call.dtype("out_type", "int32"))


def _rank(call: Call, x: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.asarray(x.ndim, np.int32)


def _reshape(call: Call, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    wanted = wholes(shape)
    if wanted.count(-1) > 1 or any(size < -1 for size in wanted):
        raise ValueError(f"impossible shape {wanted}")
    if -1 not in wanted:
        call.room(wanted, x.dtype)
    return x.reshape(wanted)


def _expand_dims(call: Call, x: np.ndarray, axis: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.expand_dims(x, whole(axis))


def _squeeze(call: Call, x: np.ndarray) -> np.ndarray:
    axes = call.integers("squeeze_dims") or call.integers("axis")
    return np.squeeze(x, tuple(axes) if axes else None)


def _transpose(call: Call, x: np.ndarray, order: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.transpose(x, wholes(order))


def _pack(call: Call, *inputs: np.ndarray) -> np.ndarray:
    first = inputs[0]
    for each in inputs:
        same_type(first, each)
    call.room((len(inputs), *first.shape), first.dtype)
    return np.stack(inputs, axis=call.attribute("axis", 0))


def _unpack(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    moved = np.moveaxis(x, call.attribute("axis", 0), 0)
    if len(moved) != call.attribute("num", len(moved)):
        raise ValueError(f"{list(x.shape)} is not {call.attribute('num', 0)} parts")
    return tuple(moved)


def _joined(call: Call, parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    first = parts[0]
    for each in parts:
        same_type(first, each)
    call.room((sum(each.size for each in parts),), first.dtype)
    return np.concatenate(parts, axis=_axis(axis, first.ndim))


def _concat_v2(call: Call, *inputs: np.ndarray) -> np.ndarray:
    return _joined(call, inputs[:-1], whole(inputs[-1]))


def _concat(call: Call, axis: np.ndarray, *parts: np.ndarray) -> np.ndarray:
    return _joined(call, parts, whole(axis))


def _split(call: Call, axis: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    parts = call.attribute("num_split", 1)
    if not 0 < parts <= x.size + 1:
        raise ValueError(f"{list(x.shape)} in {parts} parts")
    return tuple(np.split(x, parts, axis=_axis(whole(axis), x.ndim)))


def _split_v(call: Call, x: np.ndarray, sizes: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, ...]:  # noqa: ARG001
    along = _axis(whole(axis), x.ndim)
    lengths = wholes(sizes)
    if lengths.count(-1) == 1:
        lengths[lengths.index(-1)] = x.shape[along] - sum(lengths) - 1
    if any(length < 0 for length in lengths) or sum(lengths) != x.shape[along]:
        raise ValueError(f"{list(x.shape)} in parts of {lengths}")
    return tuple(np.split(x, np.cumsum(lengths[:-1], dtype=np.int64), axis=along))


def _slice(call: Call, x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:  # noqa: ARG001
    starts, sizes = wholes(begin), wholes(size)
    if len(starts) != x.ndim or len(sizes) != x.ndim:
        raise ValueError(f"{len(starts)} places of {x.ndim} dimensions")
    parts = []
    for start, length, there in zip(starts, sizes, x.shape, strict=True):
        end = there if length == -1 else start + length
        if not 0 <= start <= end <= there:
            raise ValueError(f"{start} to {end} is outside of {list(x.shape)}")
        parts.append(slice(start, end))
    return x[tuple(parts)]


def _strided_slice(call: Call, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Each bit of a mask speaks of the place of its number: of the slice's words, not of the dimensions."""
    starts, ends, steps = wholes(begin), wholes(end), wholes(strides)
    if not len(starts) == len(ends) == len(steps) or len(starts) > 64:
        raise ValueError(f"{len(starts)} starts, {len(ends)} ends, {len(steps)} steps")
    masks = {
        name: call.attribute(f"{name}_mask", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list[Any] = []
    for number, (start, stop, step) in enumerate(zip(starts, ends, steps, strict=True)):
        bit = 1 << number
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(start)
        else:
            first = None if masks["begin"] & bit else start
            index.append(slice(first, None if masks["end"] & bit else stop, step))
    return np.asarray(x[tuple(index)])


def _tile(call: Call, x: np.ndarray, times: np.ndarray) -> np.ndarray:
    counts = wholes(times)
    if len(counts) != x.ndim:
        raise ValueError(f"{len(counts)} counts of {x.ndim} dimensions")
    call.room([size * count for size, count in zip(x.shape, counts, strict=True)], x.dtype)
    return np.tile(x, counts)


def _fill(call: Call, shape: np.ndarray, value: np.ndarray) -> np.ndarray:
    call.room(wholes(shape), value.dtype)
    return np.full(wholes(shape), value.reshape(()), value.dtype)


def _broadcast_to(call: Call, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    call.room(wholes(shape), x.dtype)
    return np.broadcast_to(x, wholes(shape))


def _range(call: Call, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    same_type(start, limit)
    same_type(start, delta)
    first, last, step = (each.reshape(()).item() for each in (start, limit, delta))
    if not step:
        raise ValueError("a range by steps of 0")
    if isinstance(first, int):
        count = max(0, -(-(last - first) // step))
    else:
        ratio = (last - first) / step
        if not math.isfinite(ratio):
            raise ValueError(f"a range of {first} to {last}")
        count = max(0, math.ceil(ratio))
    call.room((count,), np.dtype(np.int64))
    return np.asarray(first + np.arange(count) * step, start.dtype)


def _linspace(call: Call, start: np.ndarray, stop: np.ndarray, count: np.ndarray) -> np.ndarray:
    call.room((whole(count),), start.dtype)
    return np.linspace(start.reshape(()), stop.reshape(()), whole(count), dtype=start.dtype)


def _padding(call: Call, x: np.ndarray, around: np.ndarray) -> list[tuple[int, int]]:
    """How much goes before and behind, of each dimension. Raises ValueError for what is no padding."""
    if around.shape != (x.ndim, 2) or (around < 0).any():
        raise ValueError(f"{list(around.shape)} is no padding of {list(x.shape)}")
    pairs = [(int(before), int(behind)) for before, behind in around]
    call.room([size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True)], x.dtype)
    return pairs


def _pad(call: Call, x: np.ndarray, around: np.ndarray, value: np.ndarray | None = None) -> np.ndarray:
    pairs = _padding(call, x, around)
    return np.pad(x, pairs, constant_values=np.zeros((), x.dtype) if value is None else value.reshape(()))


def _reverse(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.flip(x, tuple(_axis(axis, x.ndim) for axis in wholes(axes)))


def _reverse_sequence(call: Call, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    rows, along = call.attribute("batch_dim", 0), call.attribute("seq_dim", 0)
    moved = np.moveaxis(x, (_axis(rows, x.ndim), _axis(along, x.ndim)), (0, 1))
    if lengths.shape != moved.shape[:1] or ((lengths < 0) | (lengths > moved.shape[1])).any():
        raise ValueError(f"lengths {list(lengths.shape)} of {list(x.shape)}")
    place = np.broadcast_to(np.arange(moved.shape[1]), moved.shape[:2])
    turned = np.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    call.room(x.shape, x.dtype)
    found = moved[np.arange(len(moved))[:, None], turned]
    return np.moveaxis(found, (0, 1), (_axis(rows, x.ndim), _axis(along, x.ndim)))


# ------------------------------------------------------------------------------------------------ by indices


def _require_inside(indices: np.ndarray, count: int) -> None:
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices of {indices.dtype}")
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= count):
        wrong = int(indices.min()) if int(indices.min()) < 0 else int(indices.max())
        raise IndexError(f"row {wrong} is none of {count}")


def gather(call: Call, rows: np.ndarray, indices: np.ndarray, axis: int = 0, batch: int = 0) -> np.ndarray:
    """The rows of these numbers; the first ``batch`` dimensions are common to both."""
    along = _axis(axis, rows.ndim)
    batch = _axis(batch, indices.ndim + 1)
    if batch > along or rows.shape[:batch] != indices.shape[:batch]:
        raise ValueError(f"rows {list(indices.shape)} of {list(rows.shape)}")
    _require_inside(indices, rows.shape[along])
    call.room((*rows.shape[:along], *indices.shape[batch:], *rows.shape[along + 1 :]), rows.dtype)
    if not batch:
        return np.take(rows, indices, axis=along)
    shared = math.prod(rows.shape[:batch])
    pairs = zip(rows.reshape(shared, *rows.shape[batch:]), indices.reshape(shared, *indices.shape[batch:]), strict=True)
    found = [np.take(each, numbers, axis=along - batch) for each, numbers in pairs]
    shape = (*rows.shape[:along], *indices.shape[batch:], *rows.shape[along + 1 :])
    return np.asarray(found, rows.dtype).reshape(shape)


def _gather_v2(call: Call, rows: np.ndarray, indices: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return gather(call, rows, indices, whole(axis), call.attribute("batch_dims", 0))


def _gather(call: Call, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return gather(call, rows, indices)


def _gather_nd(call: Call, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    if not indices.ndim or indices.shape[-1] > x.ndim:
        raise ValueError(f"places {list(indices.shape)} in {list(x.shape)}")
    depth = indices.shape[-1]
    for number in range(depth):
        _require_inside(indices[..., number], x.shape[number])
    call.room((*indices.shape[:-1], *x.shape[depth:]), x.dtype)
    return (
        np.asarray(x[tuple(np.moveaxis(indices, -1, 0))])
        if depth
        else np.broadcast_to(x, (*indices.shape[:-1], *x.shape))
    )


def _sparse_to_dense(
    call: Call, places: np.ndarray, shape: np.ndarray, values: np.ndarray, default: np.ndarray
) -> np.ndarray:
    same_type(values, default)
    size = wholes(shape)
    call.room(size, values.dtype)
    found = np.full(size, default.reshape(()), values.dtype)
    rows = places.reshape(-1, 1) if places.ndim < 2 else places
    if rows.ndim != 2 or rows.shape[1] != len(size):
        raise ValueError(f"places {list(places.shape)} in {size}")
    for number, length in enumerate(size):
        _require_inside(rows[:, number], length)
    found[tuple(rows.T)] = values
    return found


def _scatter_nd(call: Call, places: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    size = wholes(shape)
    call.room(size, values.dtype)
    depth = places.shape[-1]
    for number in range(depth):
        _require_inside(places[..., number], size[number])
    found = np.zeros(size, values.dtype)
    np.add.at(found, tuple(np.moveaxis(places, -1, 0)), values)
    return found


def _one_hot(call: Call, indices: np.ndarray, depth: np.ndarray, on: np.ndarray, off: np.ndarray) -> np.ndarray:
    same_type(on, off)
    axis = call.attribute("axis", -1)
    call.room((*indices.shape, whole(depth)), on.dtype)
    hot = indices[..., None] == np.arange(whole(depth))
    return np.moveaxis(np.where(hot, on.reshape(()), off.reshape(())), -1, axis if axis != -1 else hot.ndim - 1)


def _where(call: Call, x: np.ndarray) -> np.ndarray:
    call.room((x.size, x.ndim), np.dtype(np.int64))
    return np.argwhere(x).astype(np.int64, copy=False).reshape(-1, x.ndim)


def _unique(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In the order in which they first are there."""
    call.room((3, x.size), np.dtype(np.int64))
    values, first, inverse = np.unique(x, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return values[order], place[inverse.ravel()].astype(call.dtype("out_idx", "int32"))


def _invert_permutation(call: Call, x: np.ndarray) -> np.ndarray:  # noqa: ARG001
    if sorted(wholes(x)) != list(range(len(x))):
        raise ValueError("no permutation")
    return np.argsort(x).astype(x.dtype)


def _dynamic_stitch(call: Call, *inputs: np.ndarray) -> np.ndarray:
    """Rows by their numbers; of two of one number the last."""
    half = len(inputs) // 2
    numbers, parts = inputs[:half], inputs[half:]
    rows = [(np.ravel(n), p.reshape(n.size, *p.shape[n.ndim :])) for n, p in zip(numbers, parts, strict=True)]
    count = max((int(n.max()) + 1 for n, _ in rows if n.size), default=0)
    call.room((count, *rows[0][1].shape[1:]), rows[0][1].dtype)
    found = np.zeros((count, *rows[0][1].shape[1:]), rows[0][1].dtype)
    for n, p in rows:
        _require_inside(n, count)
        found[n] = p
    return found


def _dynamic_partition(call: Call, x: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, ...]:
    count = call.attribute("num_partitions", 1)
    if x.shape[: parts.ndim] != parts.shape or not 0 < count <= 1 << 16:
        raise ValueError(f"{count} parts {list(parts.shape)} of {list(x.shape)}")
    _require_inside(parts, count)
    return tuple(x[parts == number] for number in range(count))


def _band_part(call: Call, x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    if x.ndim < 2:
        raise ValueError(f"{list(x.shape)} is no matrix")
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    below, above = whole(lower), whole(upper)
    call.room(x.shape, x.dtype)
    kept = ((below < 0) | (rows - columns <= below)) & ((above < 0) | (columns - rows <= above))
    return np.where(kept, x, np.zeros((), x.dtype))


def _identity(call: Call, x: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return x


def _identities(call: Call, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:  # noqa: ARG001
    return inputs


def _mirror_pad(call: Call, x: np.ndarray, around: np.ndarray) -> np.ndarray:
    mode = call.text("mode", "REFLECT")
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise UnsupportedError(f"mode {mode} is not interpreted")
    pairs = _padding(call, x, around)
    if any(max(pair) > size - (mode == "REFLECT") for size, pair in zip(x.shape, pairs, strict=True)):
        raise ValueError(f"a mirror wider than {list(x.shape)}")
    return np.pad(x, pairs, mode="reflect" if mode == "REFLECT" else "symmetric")


OPS: Mapping[str, Op] = {
    "BroadcastTo": _broadcast_to,
    "CheckNumerics": _identity,
    "Concat": _concat,
    "ConcatV2": _concat_v2,
    "Const": _const,
    "DynamicPartition": _dynamic_partition,
    "DynamicStitch": _dynamic_stitch,
    "ExpandDims": _expand_dims,
    "Fill": _fill,
    "Gather": _gather,
    "GatherNd": _gather_nd,
    "GatherV2": _gather_v2,
    "Identity": _identity,
    "IdentityN": _identities,
    "InvertPermutation": _invert_permutation,
    "LinSpace": _linspace,
    "MatrixBandPart": _band_part,
    "MirrorPad": _mirror_pad,
    "OneHot": _one_hot,
    "Pack": _pack,
    "Pad": _pad,
    "ParallelDynamicStitch": _dynamic_stitch,
    "PadV2": _pad,
    "PlaceholderWithDefault": _identity,
    "PreventGradient": _identity,
    "Range": _range,
    "Rank": _rank,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "ReverseV2": _reverse,
    "ScatterNd": _scatter_nd,
    "Shape": _shape,
    "ShapeN": _shapes,
    "Size": _size,
    "Slice": _slice,
    "Snapshot": _identity,
    "SparseToDense": _sparse_to_dense,
    "Split": _split,
    "SplitV": _split_v,
    "Squeeze": _squeeze,
    "StopGradient": _identity,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unique": _unique,
    "Unpack": _unpack,
    "Where": _where,
}
