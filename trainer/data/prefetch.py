"""Preparing batches while the one before them is trained on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Value = TypeVar("Value")

_DEPTH = 2


class Prefetch(Generic[Value]):
    """Calls a pure function of the step in a thread of its own, for the steps that come next."""

    def __init__(self, make: Callable[[int], Value]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._pending: dict[int, Future[Value]] = {}

    def __call__(self, step: int) -> Value:
        for number in range(step, step + 1 + _DEPTH):
            if number not in self._pending:
                self._pending[number] = self._pool.submit(self._make, number)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """Stop preparing; what was begun is finished."""
        self._pool.shutdown(cancel_futures=True)
