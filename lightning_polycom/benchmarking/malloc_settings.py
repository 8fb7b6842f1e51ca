"""glibc settings under which large tensors are reused instead of being page-faulted anew at each allocation.

Imports nothing heavy: glibc reads them when a process starts, so they are set before torch is worth importing.
"""

import os
import sys

# glibc returns tensors above 32 MiB to the system, and each new one is then page-faulted anew.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def has_malloc_settings() -> bool:
    """Whether this process was started with the settings."""
    return all(os.environ.get(key) == value for key, value in MALLOC.items())


def restart_with_malloc_settings() -> None:
    """Replaces this process by the same command with the settings; returns if it has them or they mean nothing here.

    Only a process whose own command line this is: one that merely calls the command (a test, a notebook) would be
    lost, and goes on without.
    """
    arguments = sys.argv[1:]
    own = sys.orig_argv[len(sys.orig_argv) - len(arguments) :] == arguments
    if sys.platform == "linux" and own and not has_malloc_settings():
        # orig_argv and not argv, whose first entry is no longer `-m package` where it was.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **MALLOC})
