"""Two threads that examine tensors: while one computes a checksum, the other waits for the system to copy bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from ckpt_tools.readers.base import Progress

_LOOK_SECONDS = 0.1


def in_threads(batches: Iterable[Sequence[str]], examine: Callable[[str], Iterator[Progress]]) -> Iterator[Progress]:
    """The steps of examining every tensor of all batches: tensors and findings in their order, bytes as they are read.

    ``examine`` is called in both threads. What it raises is raised here, and ends the work of the other.
    """
    helper = _Helper(enumerate(batches), examine)
    helper.start()
    found: dict[int, list[Progress]] = helper.found
    shown = 0
    try:
        for number, names in helper.left():
            steps = []
            for name in names:
                for step in examine(name):
                    if step.tensor is None and step.finding is None:
                        yield Progress(step.nbytes + helper.bytes_read())
                        helper.complain()
                    else:
                        steps.append(step)
            found[number] = steps
            while shown in found:
                yield from found.pop(shown)
                shown += 1
        while helper.is_alive():
            helper.join(_LOOK_SECONDS)
            yield Progress(helper.bytes_read())
        helper.complain()
        yield Progress(helper.bytes_read())
        for number in sorted(found):
            yield from found.pop(number)
    finally:
        helper.stop()


class _Helper(threading.Thread):
    """Takes every batch that the other thread has not taken."""

    def __init__(
        self, batches: Iterator[tuple[int, Sequence[str]]], examine: Callable[[str], Iterator[Progress]]
    ) -> None:
        super().__init__(daemon=True)
        self.found: dict[int, list[Progress]] = {}
        self._batches = batches
        self._examine = examine
        self._lock = threading.Lock()
        self._read = 0
        self._failure: BaseException | None = None
        self._stopped = threading.Event()

    def left(self) -> Iterator[tuple[int, Sequence[str]]]:
        """The batches that nobody has taken yet; for both threads at once."""
        while True:
            with self._lock:
                batch = next(self._batches, None)
            if batch is None:
                return
            yield batch

    def bytes_read(self) -> int:
        """How many bytes were read since this was asked last."""
        with self._lock:
            read, self._read = self._read, 0
        return read

    def complain(self) -> None:
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        try:
            for number, names in self.left():
                steps = []
                for name in names:
                    for step in self._examine(name):
                        if self._stopped.is_set():
                            return
                        if step.tensor is None and step.finding is None:
                            with self._lock:
                                self._read += step.nbytes
                        else:
                            steps.append(step)
                self.found[number] = steps
        except BaseException as error:
            self._failure = error
