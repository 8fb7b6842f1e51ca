"""How many cores this process may use: in a container often fewer than the machine has."""

import os
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_cores(control_group: Path = _CONTROL_GROUP) -> int:
    """The cores that the scheduler lets this process use, or its control group's quota if that is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(control_group)
    return cores if quota is None else max(1, min(cores, int(quota)))


def _quota(control_group: Path) -> float | None:
    """Processor seconds a second that the control group grants, version 2 or 1, or None for no limit."""
    try:
        if (control_group / "cpu.max").is_file():
            limit, period = (control_group / "cpu.max").read_text().split()
        else:
            limit, period = ((control_group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):  # no control groups here, or "max"
        return None
