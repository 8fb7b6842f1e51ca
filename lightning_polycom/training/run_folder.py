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
        version: Folder of this repetition. Default: the next free version_<n>, or, when a run of this name is resumed,
            that run's own folder.
    """

    name: str = "run"
    root: str = "runs"
    version: str | None = None


def resolve_run_folder(
    config: RunConfig, checkpoint: Path | None, is_automatic: bool = False, skipped: list[str] | None = None
) -> Path:
    """The folder that this start writes to; creates nothing.

    An automatic start may go on in a named folder without a checkpoint, and past the `skipped` names of damaged ones.

    All processes of one start must agree: the first one leaves its choice in the environment, which the processes
    that Lightning launches inherit.

    Raises:
        InputError: the folder holds another run, or later steps than the one to resume; or processes were launched
            from outside (torchrun, SLURM) and no version names their common folder.
    """
    base = Path(config.root) / config.name
    resumed = checkpoint.parent.parent if checkpoint is not None else None
    if config.version is not None:
        if is_automatic and checkpoint is None:
            return base / config.version
        return _checked(base / config.version, resumed, checkpoint, skipped)
    if resumed is not None and resumed.parent.resolve() == base.resolve():
        return _checked(resumed, resumed, checkpoint, skipped)
    if "POLYCOM_RUN_VERSION" not in os.environ:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("run.version: processes launched from outside need one name; set --run.version NAME")
        os.environ["POLYCOM_RUN_VERSION"] = f"version_{_next_version(base)}"
    return base / os.environ["POLYCOM_RUN_VERSION"]


def _checked(folder: Path, resumed: Path | None, checkpoint: Path | None, skipped: list[str] | None) -> Path:
    """The folder, if writing to it destroys nothing."""
    continues = resumed is not None and resumed.resolve() == folder.resolve()
    if (folder / "run.json").exists() and not continues:
        raise InputError(
            f"run.version: {folder} holds a run; choose another name, or resume it with --ckpt_path {folder}"
        )
    names = sorted(path.name for path in (folder / "checkpoints").glob("step-*.ckpt"))
    later = [name for name in names if name > checkpoint.name and name not in (skipped or ())] if continues else []
    if later:
        raise InputError(
            f"ckpt_path: {checkpoint.name} is not the newest step in {folder} ({later[-1]} is); "
            "go on from that one, or branch off with --run.version NAME"
        )
    return folder


def find_run(config: RunConfig) -> Path | None:
    """The folder of the run to go on with by itself: the named version, or the newest with a checkpoint, or None."""
    base = Path(config.root) / config.name
    return newest_run(base) if config.version is None else base / config.version


def newest_run(base: Path) -> Path | None:
    """The run's folder below `base` that saved a checkpoint last, whatever its version is called, or None."""
    checkpoints = list(base.glob("*/checkpoints/step-*.ckpt"))
    return max(checkpoints, key=lambda path: path.stat().st_mtime_ns).parent.parent if checkpoints else None


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
