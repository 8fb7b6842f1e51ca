"""Points the data files that a task's YAML names at the prepared data folder, and keeps caches out of their way."""

from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError


class MissingData(InputError):
    """A data file that a task names is not there, or is empty."""


def with_local_files(config: Any, task: str, data_folder: Path | None, cache: Path) -> Any:
    """A copy of a task's (or group's) parsed YAML in which every `dataset_kwargs.data_files` is an existing path.

    A relative path is looked up in the working directory, then in `data_folder`. Such data is read into memory through
    the throw-away folder `cache`: the shared cache of datasets tells files apart by modification time and can serve
    the rows of an older file.

    Raises:
        MissingData: a file is missing or empty.
    """
    if isinstance(config, list):
        return [with_local_files(item, task, data_folder, cache) for item in config]
    if not isinstance(config, dict):
        return config
    result = {key: with_local_files(value, task, data_folder, cache) for key, value in config.items()}
    arguments = result.get("dataset_kwargs")
    if not isinstance(arguments, dict) or "data_files" not in arguments or "custom_dataset" in result:
        return result
    files = _located(arguments["data_files"], task, data_folder)
    result["dataset_kwargs"] = {**arguments, "data_files": files, "cache_dir": str(cache), "keep_in_memory": True}
    return result


def forget_cache(task: Any) -> None:
    """Takes the throw-away cache folder out of a loaded lm-eval task's configuration, which goes into the results."""
    arguments = task.config.dataset_kwargs
    if arguments and arguments.get("keep_in_memory"):
        kept = {key: value for key, value in arguments.items() if key not in ("cache_dir", "keep_in_memory")}
        task.set_config("dataset_kwargs", kept)


def _located(files: Any, task: str, data_folder: Path | None) -> Any:
    if isinstance(files, dict):
        return {split: _located(file, task, data_folder) for split, file in files.items()}
    if isinstance(files, list):
        return [_located(file, task, data_folder) for file in files]
    if "://" in files:
        return files
    places = [Path(), data_folder] if data_folder is not None else [Path()]
    for place in places:
        path = (place / files).absolute()
        matches = [path] if path.is_file() else list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        for match in matches:
            if match.stat().st_size == 0:
                raise MissingData(f"{match} is empty; `polycom prepare` or `polycom fit` writes it anew")
        if matches:
            return str(path)
    looked = " and ".join(str(place.absolute()) for place in places)
    raise MissingData(f"{files} not found in {looked}; `polycom prepare` or `polycom fit` writes it")
