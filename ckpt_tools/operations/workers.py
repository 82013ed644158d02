"""The same work on many items, side by side: in processes of this machine, or on a Dask cluster.

The work is a function of a module (with `functools.partial` for its options) that takes an item and a report of its
progress; it, the items and the results travel between processes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ckpt_tools.errors import CkptError, StorageError, UnsupportedError, UsageError
from ckpt_tools.fs.local import refusal

Item = TypeVar("Item")
Result = TypeVar("Result")

Report = Callable[[int, int], None]
"""(done, total) of one item."""
OnProgress = Callable[[int, int, int], None]
"""(number of the item, done, total); called from another thread."""

# More reports than people can see would only cost.
_REPORT_SECONDS = 0.1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What came of the item with this number: a result, or the error that ended it."""

    number: int
    result: Result | None = None
    error: CkptError | None = None


class Workers(Protocol):
    """Some place where work is done."""

    def run(
        self, work: Callable[[Item, Report], Result], items: Sequence[Item], progress: OnProgress | None = None
    ) -> Generator[Done[Result], None, None]:
        """Do the work on every item; the results come as they are ready. One that fails does not stop the others."""
        ...


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Processes of this machine that share ``cores`` among them. Raises UsageError for less than one."""

    def __init__(self, cores: int | None = None) -> None:
        if cores is not None and cores < 1:
            raise UsageError(f"--workers {cores}: at least one is needed")
        self.cores = cores or available_cores()

    def run(
        self, work: Callable[[Item, Report], Result], items: Sequence[Item], progress: OnProgress | None = None
    ) -> Generator[Done[Result], None, None]:
        if not items:
            return
        count = min(self.cores, len(items))
        # Not forked: this process may have threads, whose locks a fork would copy in any state.
        context = multiprocessing.get_context("spawn")
        # Not a queue, which has a lock: who is killed while he holds it stops all others for ever. What is sent here is
        # shorter than what the system writes at once.
        with _starting():
            reader, writer = context.Pipe(duplex=False)
            pool = concurrent.futures.ProcessPoolExecutor(
                count, mp_context=context, initializer=_start, initargs=(writer,)
            )
        others = set(multiprocessing.active_children())
        with _listening(reader, writer, progress), pool:
            try:
                with _starting(), _threads_of_new_processes(self.cores // count):
                    numbers = {
                        pool.submit(_in_process, work, item, number): number for number, item in enumerate(items)
                    }
                for future in concurrent.futures.as_completed(numbers):
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        error = StorageError(
                            "the process that worked on it died, perhaps for want of memory",
                            hint="run the same command again, with fewer --workers",
                        )
                        yield Done(numbers[future], error=error)
            except BaseException:
                # Interrupted, or the caller has enough: work that is wanted no more is not waited for.
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Raises StorageError where the system has no process, no memory or no semaphore (``/dev/shm``) left for us."""
    try:
        yield
    except OSError as error:
        raise refusal(error, None, "start the processes that do the work") from error


@contextlib.contextmanager
def _listening(reader: Any, writer: Any, progress: OnProgress | None) -> Iterator[None]:
    def listen() -> None:
        while (report := reader.recv()) is not None:
            if progress is not None:
                progress(*report)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        writer.send(None)
        thread.join()
        reader.close()
        writer.close()


@contextlib.contextmanager
def _threads_of_new_processes(threads: int) -> Iterator[None]:
    """How many threads numpy's linear algebra has in processes that are started meanwhile.

    It reads these variables when it is loaded, which may be the first thing that a new process does: the program that
    called us is imported there before anything of ours runs.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_reports: Any = None


def _start(reports: Any) -> None:
    """The first thing of ours in a new process."""
    global _reports
    _reports = reports
    # A Ctrl-C reaches these processes too: they end without a word, the first one says it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however that was: nobody waits for its work any more.

    What it was changing is left as by any other kill: whole, and brought to its end by the next run.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _in_process(work: Callable[[Item, Report], Result], item: Item, number: int) -> Done[Result]:
    return _done(work, item, number, lambda done, total: _reports.send((number, done, total)))


class Cluster:
    """A Dask cluster, by the address of its scheduler. Its workers have this package and see the same files.

    ``waiting`` is called when there is no worker yet: a cluster may start them only when there is work, or never.
    """

    def __init__(self, address: str, waiting: Callable[[], None] = lambda: None) -> None:
        self.address = address
        self._waiting = waiting

    def run(
        self, work: Callable[[Item, Report], Result], items: Sequence[Item], progress: OnProgress | None = None
    ) -> Generator[Done[Result], None, None]:
        """As `Workers.run`. Raises UnsupportedError without Dask, StorageError without an answer of the scheduler."""
        try:
            from distributed import Client, as_completed
        except ImportError as error:
            raise UnsupportedError("--scheduler needs Dask", hint="pip install 'ckpt-tools[cluster]'") from error
        try:
            client = Client(self.address, timeout=_CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise StorageError(f"cannot reach the scheduler at {self.address}: {error}") from error
        with client:
            if not client.scheduler_info()["workers"]:
                self._waiting()
            topic = f"ckpt-tools-{uuid.uuid4().hex}"
            if progress is not None:
                client.subscribe_topic(topic, lambda event: progress(*event[1]))
            futures = [
                client.submit(_on_cluster, work, item, number, topic, pure=False) for number, item in enumerate(items)
            ]
            numbers = {future.key: number for number, future in enumerate(futures)}
            for future in as_completed(futures):
                if future.status == "finished":
                    yield future.result()
                else:
                    reason = future.exception() if future.status == "error" else future.status
                    lost = StorageError(f"the cluster gave it up: {reason}", hint="run the same command again")
                    yield Done(numbers[future.key], error=lost)


def _on_cluster(work: Callable[[Item, Report], Result], item: Item, number: int, topic: str) -> Done[Result]:
    from distributed import get_worker

    worker = get_worker()
    return _done(work, item, number, lambda done, total: worker.log_event(topic, (number, done, total)))


def _done(work: Callable[[Item, Report], Result], item: Item, number: int, send: Report) -> Done[Result]:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last > _REPORT_SECONDS:
            last = time.monotonic()
            send(done, total)

    try:
        return Done(number, work(item, report))
    except CkptError as error:
        return Done(number, error=error)
    except Exception as error:
        # A bug met on one item must not take the results of the others with it.
        return Done(number, error=CkptError(f"a bug in ckpt-tools: {type(error).__name__}: {error}"))
