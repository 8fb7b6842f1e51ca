"""Where a run lies: runs/<name>/<version>/, and what is found in it."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError


@dataclass(frozen=True)
class RunConfig:
    """Names the run's folder, <root>/<name>/<version>.

    Args:
        name: What the run is; the same for repetitions.
        root: Folder of all runs.
        version: Folder of this repetition. Default: the next free version_<n>, or, when resuming, the folder of the
            checkpoint.
    """

    name: str = "run"
    root: str = "runs"
    version: str | None = None


def resolve_run_folder(config: RunConfig, checkpoint: Path | None) -> Path:
    """The folder that this start writes to; creates nothing.

    All processes of one start must agree: the first one leaves its choice in the environment, which the processes
    that Lightning launches inherit.

    Raises:
        InputError: processes were launched from outside (torchrun, SLURM) and no version names their common folder.
    """
    if config.version is None and checkpoint is not None and checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    base = Path(config.root) / config.name
    if config.version is not None:
        return base / config.version
    if "POLYCOM_RUN_VERSION" not in os.environ:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("run.version: processes launched from outside need one name; set --run.version NAME")
        os.environ["POLYCOM_RUN_VERSION"] = f"version_{_next_version(base)}"
    return base / os.environ["POLYCOM_RUN_VERSION"]


def newest_version(base: Path) -> Path | None:
    """The highest version_<n> below `base`, or None."""
    versions = _versions(base)
    return base / f"version_{max(versions)}" if versions else None


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a run's folder, as `callbacks.RunRecord` wrote it.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"run: {path} cannot be read; keep a checkpoint in the folder of its run") from error


def _versions(base: Path) -> list[int]:
    if not base.is_dir():
        return []
    return [int(m[1]) for path in base.iterdir() if (m := re.fullmatch(r"version_(\d+)", path.name))]


def _next_version(base: Path) -> int:
    return max(_versions(base), default=-1) + 1
