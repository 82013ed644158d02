"""A sweep as a list of trials: every setting with every seed. Pure; nothing is read, written or trained here."""

from __future__ import annotations

import itertools
import json
import statistics
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ckpt_tools.errors import UsageError
from ckpt_tools.format import json_text
from trainer.config import TrainConfig, flag

_TYPES = {field.name: str(field.type) for field in fields(TrainConfig)}
# What a sweep is given by itself, what the data decides, and how item 0 is counted: that changes recall and no model.
_NOT_SWEPT = ("dataset", "model_type", "seed", "item_count", "padding_place")
# Of a file's name, with what stands before it (dataset, model and the sizes).
_LONGEST_NAME = 120
_MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: ``setting`` is what differs between the settings, ``seed`` what differs within one."""

    name: str
    setting: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Result:
    """What a trial has come to. ``valid`` is the recall of its best, ``test`` that of the same weights, None without
    test users."""

    trial: Trial
    valid: float
    test: float | None
    best_step: int
    step: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Summary:
    """Of one setting: means and sample deviations over ``seeds`` runs, None of fewer than two."""

    setting: Mapping[str, Any]
    seeds: int
    valid: float
    valid_deviation: float | None
    test: float | None
    test_deviation: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def value_of(name: str, text: str) -> Any:
    """A hyper-parameter's value as it was typed. Raises UsageError for an unknown name or another type."""
    if name not in _TYPES or name in _NOT_SWEPT:
        choices = ", ".join(known for known in _TYPES if known not in _NOT_SWEPT)
        raise UsageError(f"there is no setting {name!r} to sweep over", hint=f"choose from {choices}")
    kind = _TYPES[name]
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{flag(name)} {text!r} is not {_IN_WORDS[kind]}") from error


_IN_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a name"}


def grid(axes: Iterable[str]) -> list[dict[str, Any]]:
    """Every combination of ``NAME=V1,V2,...``; one empty setting without axes. Raises UsageError."""
    by_name: dict[str, list[Any]] = {}
    for axis in axes:
        name, separator, values = axis.partition("=")
        name = name.strip().replace("-", "_")
        if not separator or not values.strip():
            raise UsageError(f"--grid {axis} is not NAME=V1,V2,...", hint="for example --grid num_interest=1,4")
        if name in by_name:
            raise UsageError(f"--grid names {name} twice", hint="give all of its values at once")
        by_name[name] = [value_of(name, text.strip()) for text in values.split(",")]
    return [dict(zip(by_name, values, strict=True)) for values in itertools.product(*by_name.values())]


def listed(text: str) -> list[dict[str, Any]]:
    """The settings of a JSON list of objects. Raises UsageError."""
    try:
        found = json_text.parse(text)
    except ValueError as error:
        raise UsageError(f"is not JSON: {error}") from error
    if not isinstance(found, list) or not found or not all(isinstance(setting, dict) for setting in found):
        raise UsageError("is not a list of objects", hint='for example [{"num_interest": 1}, {"num_interest": 4}]')
    return [
        {name.replace("-", "_"): _of_json(name.replace("-", "_"), value) for name, value in setting.items()}
        for setting in found
    ]


def _of_json(name: str, value: Any) -> Any:
    if isinstance(value, (list, dict)) or value is None:
        raise UsageError(f"{name} is {json.dumps(value)}", hint="one value for each name")
    return value_of(name, json.dumps(value) if isinstance(value, bool) else str(value))


def make_trials(name: str, settings: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Trial]:
    """Each setting once with each seed, seed by seed, so that a sweep that is stopped has compared all settings.

    A trial's name is a function of its setting and seed: the same command finds what is there already.

    Raises UsageError for more runs than a sweep makes.
    """
    different = list({json.dumps(setting, sort_keys=True): setting for setting in settings}.values())
    seeds = list(dict.fromkeys(seeds))
    if len(different) * len(seeds) > _MOST_TRIALS:
        raise UsageError(f"{len(different)} settings with {len(seeds)} seeds are more than {_MOST_TRIALS} runs")
    return [Trial(_name(name, setting, seed), setting, seed) for seed in seeds for setting in different]


def _name(name: str, setting: Mapping[str, Any], seed: int) -> str:
    parts = [f"{key.replace('_', '-')}{value}" for key, value in sorted(setting.items())]
    whole = "-".join([name, *parts, f"seed{seed}"])
    if len(whole.encode()) <= _LONGEST_NAME:
        return whole
    digest = zlib.crc32(json.dumps(setting, sort_keys=True).encode())
    return f"{name}-{digest:08x}-seed{seed}"


def in_words(setting: Mapping[str, Any]) -> str:
    """``num_interest 4, readout max``."""
    return ", ".join(f"{name} {value}" for name, value in setting.items()) or "as the recipe"


def summaries(results: Iterable[Result]) -> list[Summary]:
    """One for each setting, the best on valid first."""
    by_setting: dict[str, list[Result]] = {}
    for result in results:
        by_setting.setdefault(json.dumps(result.trial.setting, sort_keys=True), []).append(result)
    found = [_summary(of_setting) for of_setting in by_setting.values()]
    return sorted(found, key=lambda summary: -summary.valid)


def _summary(results: Sequence[Result]) -> Summary:
    valid = [result.valid for result in results]
    test = [result.test for result in results if result.test is not None]
    return Summary(
        results[0].trial.setting,
        len(results),
        statistics.mean(valid),
        statistics.stdev(valid) if len(valid) > 1 else None,
        statistics.mean(test) if test else None,
        statistics.stdev(test) if len(test) > 1 else None,
    )
