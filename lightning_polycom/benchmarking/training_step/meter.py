"""What one turn of a contender took."""

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Turn:
    """Some optimizer steps without a pause.

    `seconds` is wall time, on a GPU between two events on its stream; `cpu_seconds` are those of all the process'
    threads. `peak_bytes` is the most memory until now beyond what was held before the first step: on a GPU allocated,
    on Linux resident, elsewhere 0. `loss` is the last step's where the contender tells it.
    """

    steps: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    loss: float | None = None


class Meter:
    """Waits for orders at a connection, and answers each with a `Turn`."""

    def __init__(self, connection: Connection, device: torch.device):
        self.connection, self.device = connection, device
        self._held: int | None = None

    def wait(self) -> int:
        """The number of steps to make now, 0 to end; the clock runs when it returns."""
        steps = self.connection.recv()
        if self._held is None:
            self._held = _restart_peak(self.device)
        self._steps, self._cpu = steps, time.process_time()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._start.record()
        self._wall = time.perf_counter()
        return steps

    def answer(self, loss: Tensor | float | None = None) -> None:
        """Stops the clock, when the device is done."""
        if self.device.type == "cuda":
            self._end.record()
            torch.cuda.synchronize()
            seconds = self._start.elapsed_time(self._end) / 1000
        else:
            seconds = time.perf_counter() - self._wall
        cpu = time.process_time() - self._cpu
        value = None if loss is None else float(loss)
        self.connection.send(Turn(self._steps, seconds, cpu, _peak(self.device) - self._held, value))


def _restart_peak(device: torch.device) -> int:
    """Forgets the peak so far, and returns the bytes held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if (path := Path("/proc/self/clear_refs")).exists():
        path.write_text("5")  # resets VmHWM
    return _resident("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    """Bytes of a field of Linux' /proc/self/status."""
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
