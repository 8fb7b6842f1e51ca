"""The memory that a process may still take."""

import os
from pathlib import Path

CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_memory_bytes() -> int:
    """What the system can give without swapping, within the limit of the container; all there is where it cannot tell.

    A container's usage counts files that it has read, which the system would drop; so this may be less than there is.
    """
    free = [_free_of_system(), *(_free_of_container(Path(limit), Path(usage)) for limit, usage in CGROUPS)]
    return min(found for found in free if found is not None)


def _free_of_system() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_of_container(limit: Path, usage: Path) -> int | None:
    """None without a limit."""
    try:
        allowed, used = limit.read_text(encoding="utf-8").strip(), int(usage.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return max(0, int(allowed) - used) if allowed.isdecimal() else None
