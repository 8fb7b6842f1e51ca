"""One process for each contender, all waiting but the one whose turn it is."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from lightning_polycom.benchmarking.malloc_settings import MALLOC
from lightning_polycom.benchmarking.training_step.contenders import Case
from lightning_polycom.benchmarking.training_step.meter import Turn
from lightning_polycom.errors import InputError


class Contender:
    """A process that trains a case for as many steps as it is asked for.

    Processes of their own, because compiled code, the allocator and the threads of one must not be another's, and
    because Lightning's loop cannot be called step by step. Those that wait sleep.
    """

    def __init__(self, case: Case, data: Path, folder: Path):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._output = folder / "output.txt"
        threads = {} if case.threads is None else {"OMP_NUM_THREADS": str(case.threads)}
        with _environment({**MALLOC, **threads}):
            self._process = context.Process(target=serve, args=(case, data, folder, theirs), daemon=True)
            self._process.start()
        theirs.close()

    def train(self, steps: int) -> Turn:
        """Makes `steps` optimizer steps.

        Raises:
            InputError: the process has ended; with the last line that it wrote.
        """
        try:
            self._connection.send(steps)
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            lines = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise InputError(f"a contender has ended: {lines[-1] if lines else 'it wrote nothing'}") from error

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process at once: nothing of it is kept."""
        self._process.kill()
        self._process.join()


def serve(case: Case, data: Path, folder: Path, connection: Connection) -> None:
    """What the process does; all that it prints goes to output.txt."""
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    import torch

    from lightning_polycom.benchmarking.training_step.bare_loop import run_bare_loop
    from lightning_polycom.benchmarking.training_step.fit_run import run_fit
    from lightning_polycom.benchmarking.training_step.meter import Meter

    if case.threads is not None:
        torch.set_num_threads(case.threads)
    if case.peers is not None:
        sys.path.append(case.peers)  # behind all that is installed
    meter = Meter(connection, torch.device(case.device))
    try:
        if case.contender == "fit":
            run_fit(case, data, meter, folder)
        else:
            run_bare_loop(case, data, meter)
    except InputError as error:
        sys.exit(str(error))


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
