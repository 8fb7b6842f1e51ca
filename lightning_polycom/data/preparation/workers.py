"""Processes that work on tasks side by side, with one progress bar and one way to stop."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, NamedTuple

from lightning_polycom.data.preparation.progress import Totals, show
from lightning_polycom.errors import InputError

_WORTHWHILE_BYTES = 8 << 20  # of text; for less, starting processes takes longer than the work

# spawn: a fork of a process with threads (a tokenizer's, torch's) may hang.
_CONTEXT = multiprocessing.get_context("spawn")


class Stopped(Exception):
    """Raised in a worker after another one has failed."""


class Done(NamedTuple):
    """Work that a stage has done so far, over all processes."""

    documents: int
    num_bytes: int
    tokens: int


class _Shared:
    """Counters and a stop sign in memory that all processes see."""

    def __init__(self):
        self.counters = _CONTEXT.Array("q", 3)
        self.stop = _CONTEXT.Event()


_shared: _Shared | None = None


def report(documents: int, num_bytes: int, tokens: int = 0) -> None:
    """Counts work that is done; a task calls it after every few documents.

    Raises:
        Stopped: the work is to end, because something failed elsewhere.
    """
    counters = _shared.counters
    with counters.get_lock():
        for number, amount in enumerate((documents, num_bytes, tokens)):
            counters[number] += amount
    if _shared.stop.is_set():
        raise Stopped


class Workers:
    """Up to `count` processes, started when there is enough to do; small work is done in this one.

    A context manager: at its end the processes are gone, after an error within a batch of documents.
    """

    def __init__(self, count: int):
        self.count = count
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        global _shared
        _shared = _Shared()
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        if self._executor is not None:
            if kind is not None:
                _shared.stop.set()
            self._executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self,
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        description: str,
        num_bytes: int,
        totals: Totals | None = None,
    ) -> list[Any]:
        """Calls `function`, of a module, on every task; returns the results in order.

        Args:
            function: Takes a task and calls `report`; both are picklable.
            tasks: What to do.
            description: For the progress bar.
            num_bytes: Size of the work, which decides whether processes are worth their start.
            totals: What will have been done at the end, if it is known.

        Raises:
            InputError: a task's own, or that a process was killed.
        """
        for number in range(3):
            _shared.counters[number] = 0
        with show(description, self.done, totals):
            if self.count == 1 or len(tasks) < 2 or num_bytes < _WORTHWHILE_BYTES:
                return [function(task) for task in tasks]
            return self._run_beside(function, tasks)

    def done(self) -> Done:
        """What the present stage has done."""
        return Done(*_shared.counters)

    def _run_beside(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(self.count, _CONTEXT, _start_worker, (_shared,))
        try:
            with _without_main_module():
                futures = [self._executor.submit(function, task) for task in tasks]
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise InputError(
                "a process that encodes text was killed, perhaps for want of memory: the same command goes on from "
                "the work that is finished; try fewer num_workers"
            ) from error


@contextmanager
def _without_main_module() -> Iterator[None]:
    """A process started here needs nothing of the script that runs, which it would otherwise run again at its start."""
    main = vars(sys.modules["__main__"])
    kept = {name: main.get(name) for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    # Each process encodes on one core; what belongs together is stopped by the first process.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose first process was killed must not wait for tasks forever."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
