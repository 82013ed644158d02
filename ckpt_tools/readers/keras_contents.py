"""What a file of Keras itself says that it should hold, against what is there.

    Keras 1 and 2   layer_names of the model, weight_names of each layer and of the optimizer: attributes, written
                    before the values, so that they tell what a save that was interrupted has not written
    Keras 3         config.json: the layers, their classes and sizes; the variables of a layer are numbered from 0

Sources: keras/src/legacy/saving/legacy_h5_format.py, keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ckpt_tools.format import json_text
from ckpt_tools.format.keras_classes import snake_case
from ckpt_tools.readers.base import TensorInfo
from ckpt_tools.readers.hdf5 import Listed

MAX_CONFIG_BYTES = 64 << 20

_SOME = 3
_MOST_LAYERS = 100_000
_VARIABLE = re.compile(r"(?P<group>(?:.*/)?vars)/(?P<number>\d+)", re.DOTALL)
_OPTIMIZER = "optimizer_weights"
_TOP = "top_level_model_weights"
# What the library calls a weight, of one output or of several.
_MODELS = ("Sequential", "Functional", "Model")

Sizes = tuple[int | None, ...]


def problems(
    tensors: Mapping[str, TensorInfo], lists: Sequence[Listed], unwritten: Iterable[str], config: str | None
) -> Iterator[str]:
    """A sentence for each way in which a file does not hold what it says.

    Args:
        tensors: the datasets, by path.
        lists: the lists of names that the file keeps.
        unwritten: the datasets for which no bytes were ever written.
        config: the configuration of the model, as JSON, where there is one.
    """
    by_name = {(_path(each.group), each.attribute): each.names for each in lists}
    listed = set()
    base = next((base for base in ("", "model_weights") if (base, "layer_names") in by_name), None)
    if base is not None:
        wanted, lost = _of_layers(base, by_name, tensors)
        listed |= set(wanted)
        if lost:
            count = len(by_name[base, "layer_names"])
            yield f"lists {count} layers, {_absent(len(lost))}: {_some(lost)}"
        yield from _missing("weights", wanted, tensors)
    yield from _unlisted(base, by_name, tensors)
    yield from _twice(base, by_name)
    optimizer = [_path(_OPTIMIZER, name) for name in by_name.get((_OPTIMIZER, "weight_names"), ())]
    listed |= set(optimizer)
    yield from _missing("weights of the optimizer", optimizer, tensors)
    numbered = _numbered(tensors)
    for group, numbers in numbered.items():
        first = next(number for number in itertools.count() if number not in numbers)
        if first < max(numbers):
            yield f"variable {first} of {group} is not there, and variable {max(numbers)} is"
    of_keras = listed | {name for name in tensors if _VARIABLE.fullmatch(name)}
    if empty := [name for name in unwritten if name in of_keras]:
        yield f"{len(empty)} weights were never written, so that they are zeros: {_some(empty)}"
    if odd := [name for name in of_keras if name in tensors and tensors[name].dtype == "opaque"]:
        yield f"{len(odd)} weights are of a type that is none of tensors: {_some(sorted(odd))}"
    if config is not None:
        yield from _against_config(config, tensors, base, by_name, numbered)


def _of_layers(
    base: str, lists: Mapping[tuple[str, str], Sequence[str]], tensors: Mapping[str, TensorInfo]
) -> tuple[list[str], list[str]]:
    """The paths of all weights that the layers list, and the layers that are not there."""
    wanted: list[str] = []
    lost: list[str] = []
    for layer in lists[base, "layer_names"]:
        group = _path(base, layer)
        weights = lists.get((group, "weight_names"))
        if weights is not None:
            wanted += [_path(group, name) for name in weights]
        elif group not in tensors:  # in shards of Hugging Face's transformers the layers are the weights
            lost.append(layer)
    wanted += [_path(base, _TOP, name) for name in lists.get((_path(base, _TOP), "weight_names"), ())]
    return wanted, lost


def _unlisted(
    base: str | None, lists: Mapping[tuple[str, str], Sequence[str]], tensors: Mapping[str, TensorInfo]
) -> Iterator[str]:
    """Weights in layers that the list of layers does not name: Keras, which goes by the list, loads none of them."""
    named = {_path(base, layer) for layer in lists[base, "layer_names"]} if base is not None else set()
    unnamed = {
        group: count
        for (group, attribute), names in lists.items()
        if attribute == "weight_names" and group not in ("", _OPTIMIZER) and group.rpartition("/")[2] != _TOP
        if group not in named and (count := sum(_path(group, name) in tensors for name in names))
    }
    if unnamed:
        listed = "has no list of its layers" if base is None else f"lists {_counted(len(named), 'layer')}"
        held = f"{_counted(len(unnamed), 'layer')} with {_counted(sum(unnamed.values()), 'weight')}"
        yield f"{listed}, and holds {held} that it does not list: {_some(sorted(unnamed))}"
    elif base is not None and not named:
        inside = [name for name in tensors if name.startswith(f"{base}/" if base else "")]
        inside = [name for name in inside if name.split("/")[0] != _OPTIMIZER and f"{_TOP}/" not in name]
        if inside:
            yield f"lists no layers, and holds {_counted(len(inside), 'weight')}: {_some(inside)}"


def _twice(base: str | None, lists: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    """Names that a list has more than once: the file has room for one of each, and Keras stops at the second."""
    for (group, attribute), names in lists.items():
        if base is not None and (attribute == "weight_names" or group == base):
            again = [name for name, count in Counter(names).items() if count > 1]
            if again:
                what = "layers" if attribute == "layer_names" else f"weights of {group or 'the file'}"
                yield f"lists {len(names)} {what}, and one name for several of them: {_some(again)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _absent(count: int) -> str:
    return f"{count} of them {'is' if count == 1 else 'are'} not there"


def _missing(what: str, wanted: Sequence[str], tensors: Mapping[str, TensorInfo]) -> Iterator[str]:
    lost = [name for name in wanted if name not in tensors]
    if lost:
        yield f"lists {len(wanted)} {what}, {_absent(len(lost))}: {_some(list(dict.fromkeys(lost)))}"


def _numbered(tensors: Mapping[str, TensorInfo]) -> dict[str, set[int]]:
    """The numbers of the variables of each group of Keras 3."""
    found: dict[str, set[int]] = {}
    for name in tensors:
        match = _VARIABLE.fullmatch(name.replace("\\", "/"))
        # More digits than any layer has variables are no number.
        if match is not None and len(match["number"]) < 7:
            found.setdefault(match["group"], set()).add(int(match["number"]))
    return found


# ------------------------------------------------------------------------------------ the configuration


def _against_config(
    config: str,
    tensors: Mapping[str, TensorInfo],
    base: str | None,
    lists: Mapping[tuple[str, str], Sequence[str]],
    numbered: Mapping[str, set[int]],
) -> Iterator[str]:
    try:
        document = json_text.parse(config)
    except ValueError as error:
        yield f"the configuration of the model is no JSON: {str(error)[:100]}"
        return
    known = {name.replace("\\", "/"): info for name, info in tensors.items()}
    for layer, group in _configured(document):
        name, kind = str(layer["config"].get("name") or layer.get("name")), str(layer["class_name"])
        sizes = _sizes(kind, layer["config"])
        if sizes is None:
            continue
        if base is not None:
            weights = lists.get((_path(base, name), "weight_names"))
            if weights is None or "/" in group.removeprefix("layers/"):
                continue  # lost, which is said already, or within another model
            infos = [tensors.get(_path(base, name, weight)) for weight in weights]
        else:
            below = f"{group}/cell/vars" if kind in _GATES else f"{group}/vars"
            below = below if below in numbered else below.replace("layers/", "_layer_checkpoint_dependencies/", 1)
            infos = [known.get(f"{below}/{number}") for number in sorted(numbered.get(below, ()))]
            if not infos and not _is_built(layer):
                continue
        yield from _differing(f"layer {name!r} ({kind})", sizes, infos)


def _differing(called: str, sizes: Sequence[Sizes], infos: Sequence[TensorInfo | None]) -> Iterator[str]:
    if len(infos) != len(sizes):
        yield f"{called} has {len(sizes)} weights, and {len(infos)} are there"
        return
    for number, (expected, info) in enumerate(zip(sizes, infos, strict=True)):
        if info is None:
            continue
        fits = len(info.shape) == len(expected)
        fits = fits and all(b is None or a == b for a, b in zip(info.shape, expected, strict=True))
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in expected)
            yield f"{called} needs a weight of shape ({wanted}), and has {info.name} of {list(info.shape)}"
        elif "float" not in info.dtype:
            yield f"{called} needs numbers with fractions, and weight {number} is of type {info.dtype}"


def _configured(document: object) -> Iterator[tuple[dict[str, Any], str]]:
    """Each layer of a configuration, and the group that Keras 3 puts it into."""
    stack: list[tuple[object, str]] = [(document, "")]
    count = 0
    while stack:
        model, path = stack.pop()
        inner = model.get("config") if isinstance(model, dict) else None
        layers = inner.get("layers") if isinstance(inner, dict) else inner
        names: dict[str, int] = {}
        for layer in layers if isinstance(layers, list) else ():
            count += 1
            if count > _MOST_LAYERS or not isinstance(layer, dict):
                return
            kind, config = layer.get("class_name"), layer.get("config")
            if not isinstance(kind, str) or not isinstance(config, (dict, list)):
                continue
            name = snake_case("Functional" if kind == "Model" else kind.rsplit(">", 1)[-1])
            number = names.get(name, 0)
            names[name] = number + 1
            group = f"{path}/layers/{name}_{number}" if number else f"{path}/layers/{name}"
            group = group.lstrip("/")
            if kind in _MODELS:
                stack.append((layer, group))
            elif isinstance(config, dict):
                yield layer, group


def _is_built(layer: Mapping[str, Any]) -> bool:
    built = layer.get("build_config")
    return isinstance(built, dict) and bool(built.get("input_shape"))


_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def _sizes(kind: str, config: Mapping[str, Any]) -> list[Sizes] | None:
    """The shapes that the weights of a layer have by its configuration; None for classes that are not known here."""
    bias = config.get("use_bias", True) is not False
    units, filters = _number(config.get("units")), _number(config.get("filters"))
    if kind == "Dense" and units and not config.get("lora_rank") and not config.get("quantization_config"):
        policy = config.get("dtype")
        if isinstance(policy, dict) and "Quantized" in str(policy.get("class_name")):
            return None
        return [(None, units), *([(units,)] if bias else [])]
    rows, columns = _number(config.get("input_dim")), _number(config.get("output_dim"))
    if kind == "Embedding" and rows and columns and not config.get("lora_rank"):
        return (
            [(rows, columns)] if not isinstance(config.get("dtype"), dict) or "Quantized" not in str(config) else None
        )
    if kind in _GATES and units:
        wide = _GATES[kind] * units
        double = kind == "GRU" and config.get("reset_after") is True
        return [(None, wide), (units, wide), *([(2, wide) if double else (wide,)] if bias else [])]
    if match := re.fullmatch(r"(?:Conv|Convolution)([123])D(Transpose)?", kind):
        rank = int(match[1])
        kernel: Sizes = tuple([None] * rank)
        size = config.get("kernel_size")
        if isinstance(size, list) and len(size) == rank:
            kernel = tuple(_number(each) for each in size)
        if not filters or config.get("lora_rank"):
            return None
        ends: Sizes = (filters, None) if match[2] else (None, filters)
        return [(*kernel, *ends), *([(filters,)] if bias else [])]
    return None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _path(*parts: str) -> str:
    """A path as HDF5 understands it."""
    return "/".join(part for name in parts for part in name.split("/") if part not in ("", "."))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name if len(name) <= 100 else f"{name[:97]}..." for name in names[:_SOME])
    return f"{shown} and {len(names) - _SOME} more" if len(names) > _SOME else shown
