"""Which of several processes this one is, as ``TF_CONFIG`` tells it. Needs no TensorFlow.

The format is TensorFlow's (``tf.distribute.cluster_resolver.TFConfigClusterResolver``): a JSON object with ``cluster``,
the addresses of each kind of task, and ``task``, the kind and the index of this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ckpt_tools.errors import UsageError
from ckpt_tools.format import json_text

VARIABLE = "TF_CONFIG"
# The order in which TensorFlow numbers its tasks.
_KINDS = ("chief", "worker")
_EXAMPLE = """{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}"""


@dataclass(frozen=True)
class Task:
    """One of ``count`` processes that train together. Number 0 is the chief, the only one that writes."""

    number: int = 0
    count: int = 1

    @property
    def is_chief(self) -> bool:
        return self.number == 0


def task_of(environment: Mapping[str, str]) -> Task | None:
    """The task that ``TF_CONFIG`` gives to this process, None where it is not set.

    Raises UsageError for anything but a cluster of workers, with a chief or without, that has this task in it.
    """
    text = environment.get(VARIABLE, "")
    if not text:
        return None
    try:
        config = json_text.parse(text)
        cluster, kind, index = config["cluster"], config["task"]["type"], int(config["task"]["index"])
        addresses = {name: list(cluster[name]) for name in cluster}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _wrong("is not a cluster and a task as JSON") from error
    if strange := sorted(addresses.keys() - set(_KINDS)):
        raise _wrong(f"has tasks of the kind {strange[0]!r}; only workers and a chief train together")
    if kind not in addresses or not 0 <= index < len(addresses[kind]):
        raise _wrong(f"makes this process {kind} {index}, which is not in its cluster")
    everyone = [(name, place) for name in _KINDS for place in range(len(addresses.get(name, [])))]
    if len({address for name in addresses for address in addresses[name]}) < len(everyone):
        raise _wrong("gives two tasks the same address")
    return Task(everyone.index((kind, index)), len(everyone))


def _wrong(what: str) -> UsageError:
    return UsageError(f"{VARIABLE} {what}", hint=f"for example {VARIABLE}='{_EXAMPLE}'")
