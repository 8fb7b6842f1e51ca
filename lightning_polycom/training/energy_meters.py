"""Energy counters of the devices that train: NVIDIA GPUs (NVML) and CPU packages (Linux powercap)."""

from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch

POWERCAP = Path("/sys/class/powercap")
LOST = float("nan")  # what a counter gives that can no longer be read


class Meter(Protocol):
    """A counter of energy; `wraps` says that it starts again from 0, so that it must be read every few minutes."""

    wraps: bool

    def read(self) -> float:
        """Joules since the last `read`, at first since the meter was made; nan if the counter cannot be read."""


class CpuPackages:
    """The CPU packages of this machine, together: cores and caches, not memory, and whatever runs on them.

    Args:
        zones: Their folders in powercap.

    Raises:
        OSError: a counter cannot be read; often only root may.
        ValueError: what it holds is no number.
    """

    wraps = True  # after 65 kJ on some machines

    def __init__(self, zones: list[Path]):
        self._ranges = {zone: _number(zone / "max_energy_range_uj") for zone in zones}
        self._before = self._counters()

    def read(self) -> float:
        """Joules since the last reading."""
        try:
            now = self._counters()
        except (OSError, ValueError):
            return LOST
        grown = 0
        for zone, counter in now.items():
            grown += counter - self._before[zone]
            if counter < self._before[zone]:
                grown += self._ranges[zone]
        self._before = now
        return grown / 1e6

    def _counters(self) -> dict[Path, int]:
        return {zone: _number(zone / "energy_uj") for zone in self._ranges}


class NvidiaGpu:
    """One GPU with its memory and board, whoever uses it.

    Args:
        nvml: The module pynvml, initialised.
        handle: NVML's device.

    Raises:
        nvml.NVMLError: the device has no energy counter (before Volta).
    """

    wraps = False

    def __init__(self, nvml: ModuleType, handle: Any):
        self._nvml, self._handle = nvml, handle
        self._before = self._millijoules()

    def read(self) -> float:
        """Joules since the last reading."""
        try:
            now = self._millijoules()
        except self._nvml.NVMLError:
            return LOST
        grown, self._before = now - self._before, now
        return grown / 1e3

    def _millijoules(self) -> int:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)


def open_meter(device: torch.device, local_rank: int) -> Meter | None:
    """The meter of what this process adds to the run's energy; None where there is none to read.

    On CUDA that is its GPU. On a CPU the first process of a machine has all its packages, and the others have nothing
    to add.
    """
    if device.type == "cuda":
        return open_gpu(str(torch.cuda.get_device_properties(device).uuid))
    if device.type == "cpu":
        return open_packages(POWERCAP) if local_rank == 0 else CpuPackages([])
    return None


def open_packages(powercap: Path) -> CpuPackages | None:
    """The packages in a powercap folder; None if there are none, or this user may not read them."""
    try:
        # Zones of the same level may be the whole computer (psys); those below a package are parts of it.
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _name(zone).startswith("package")]
        return CpuPackages(zones) if zones else None
    except (OSError, ValueError):
        return None


def open_gpu(uuid: str) -> NvidiaGpu | None:
    """The GPU with CUDA's `uuid`, whatever CUDA_VISIBLE_DEVICES makes its number.

    None without the package nvidia-ml-py, NVIDIA's driver or an energy counter, and for a part of a GPU (MIG), since
    the counter is that of all parts.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return None if _is_split(pynvml, handle) else NvidiaGpu(pynvml, handle)
    except pynvml.NVMLError:
        return None


def _is_split(nvml: ModuleType, handle: Any) -> bool:
    try:
        return nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except nvml.NVMLError:  # of GPUs that cannot be split
        return False


def _name(zone: Path) -> str:
    return (zone / "name").read_text(encoding="utf-8")


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
