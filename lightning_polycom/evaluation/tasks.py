"""Loads lm-eval tasks once, so that they can be evaluated many times."""

import functools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.chance import chance_level
from lightning_polycom.evaluation.data_files import MissingData, forget_cache, with_local_files
from lightning_polycom.evaluation.hub import hub_asked_first
from lightning_polycom.evaluation.quiet import offline, quiet_harness
from lightning_polycom.evaluation.ranks import broadcast, gather, rank_and_world_size
from lightning_polycom.evaluation.task_index import index_tasks, names_reached


@dataclass
class LoadedTasks:
    """Tasks ready for `run_evaluation`, and the requested names that could not be loaded, each with a one-line reason.

    `entries` holds lm-eval's Task and Group objects by requested name (a tag stands for several tasks). `incomplete`
    are the groups that have lost a task.
    """

    entries: dict[str, list[Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    _chance: dict[tuple[str, int | None], float | None] = field(default_factory=dict, repr=False)

    @property
    def tasks(self) -> dict[str, Any]:
        """Every lm-eval Task by its name, those inside groups included."""
        leaves = [leaf for entry in self.entries.values() for item in entry for leaf in _leaves(item)]
        return {_name(task): task for task in leaves}

    @property
    def groups(self) -> dict[str, Any]:
        """Every lm-eval Group by its name, those inside groups included."""
        return {group.name: group for entry in self.entries.values() for item in entry for group in _groups(item)}

    def chance(self, limit: int | None = None) -> dict[str, float]:
        """Accuracy of guessing for each multiple-choice task, over its first `limit` documents; computed once."""
        with quiet_harness():
            for name, task in self.tasks.items():
                if (name, limit) not in self._chance:
                    self._chance[name, limit] = chance_level(task, limit)
        levels = {name: self._chance[name, limit] for name in self.tasks}
        return {name: level for name, level in levels.items() if level is not None}

    def drop(self, task_name: str, reason: str) -> None:
        """Moves one task, also out of its groups, to `failed`."""
        self.failed[task_name] = reason
        for entry in self.entries.values():
            for item in list(entry):
                for group in _groups(item):
                    if any(_name(leaf) == task_name for leaf in _leaves(group)):
                        self.incomplete.add(group.name)
                for group in _groups(item):
                    group.pop(task_name)
                if not any(_name(leaf) != task_name for leaf in _leaves(item)):
                    entry.remove(item)
        self.entries = {name: entry for name, entry in self.entries.items() if entry}


def load_tasks(
    names: list[str],
    include_path: list[str] | None = None,
    data_folder: Path | None = None,
    num_fewshot: int | None = None,
) -> LoadedTasks:
    """Loads tasks, groups and tags by name, from the folders in `include_path` and from lm-eval's own.

    Relative data files of a task from `include_path` are looked up in the working directory, then in `data_folder`.
    `num_fewshot` replaces each task's own number, except a 0 that the task sets itself (lm-eval's rule). Data that
    cannot be had is reported in `failed`. With a process group this is collective: rank 0 goes first, so that only
    one process downloads, and a name that fails on one rank is dropped on all.

    Raises:
        InputError: no names, an unknown name, a task named twice, a missing folder.
    """
    names = list(dict.fromkeys(names))
    if not names:
        raise InputError("evaluation tasks: the list is empty; name at least one task")
    load = functools.partial(_load_names, [Path(p) for p in include_path or []], data_folder, num_fewshot)
    rank = rank_and_world_size()[0]
    loaded, error = _attempt(load, names) if rank == 0 else (LoadedTasks(), None)
    first_failed, first_error = broadcast((loaded.failed, error))
    if rank != 0 and first_error is None:
        loaded, error = _attempt(load, [name for name in names if name not in first_failed])
    outcomes = gather((loaded.failed, error or first_error))
    for failed, message in outcomes:
        if message is not None:
            raise InputError(message)
        loaded.failed = {**failed, **loaded.failed}
    loaded.entries = {name: entry for name, entry in loaded.entries.items() if name not in loaded.failed}
    return loaded


def _attempt(load: Callable[[list[str]], LoadedTasks], names: list[str]) -> tuple[LoadedTasks, str | None]:
    """A user's mistake comes back as text, so that all ranks can raise it together."""
    try:
        return load(names), None
    except InputError as error:
        return LoadedTasks(), str(error)


def _load_names(
    include: list[Path], data_folder: Path | None, num_fewshot: int | None, names: list[str]
) -> LoadedTasks:
    from datasets.exceptions import DatasetsError

    loaded = LoadedTasks()
    with quiet_harness(), hub_asked_first(), tempfile.TemporaryDirectory(prefix="polycom-evaluation-") as cache:
        manager = index_tasks(names, include)
        missing = _point_at_local_files(manager, names, include, data_folder, Path(cache))
        loaded.failed = {name: reason for name, reason in missing.items() if name in names}
        unreachable = False
        for name in (name for name in names if name not in loaded.failed):
            try:
                loaded.entries[name] = _build(manager, name, only_cached=unreachable)
            except (OSError, DatasetsError, ImportError) as error:
                loaded.failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
                if isinstance(error, ConnectionError):
                    loaded.failed[name] += "; not tried, because an earlier download failed" if unreachable else ""
                    # Its retries took tens of seconds already.
                    unreachable = True
    _refuse_repeats(loaded)
    for task in loaded.tasks.values():
        _settle(task, num_fewshot)
    return loaded


def _build(manager: Any, name: str, only_cached: bool) -> list[Any]:
    if only_cached:
        with offline():
            return _build(manager, name, only_cached=False)
    result = manager.load([name])
    if name in result.get("groups", {}):
        return [result["groups"][name]]
    return list(result["tasks"].values())


def _point_at_local_files(
    manager: Any, names: list[str], include: list[Path], data_folder: Path | None, cache: Path
) -> dict[str, str]:
    """Makes the index read tasks' own data files where they lie; returns the tasks whose files are missing, and why."""
    # The public loader cannot override keys of a task inside a group; the index entry can carry the whole definition.
    from lm_eval.tasks._yaml_loader import load_yaml

    found, _ = names_reached(names, manager.task_index)
    roots, missing = [folder.resolve() for folder in include], {}
    for name in sorted(found):
        entry = manager.task_index[name]
        if entry.yaml_path is None or not any(Path(entry.yaml_path).resolve().is_relative_to(root) for root in roots):
            continue
        config = load_yaml(entry.yaml_path)
        try:
            local = with_local_files(config, name, data_folder, cache)
        except MissingData as error:
            missing[name] = str(error)
            continue
        if local != config:
            manager.task_index[name] = replace(entry, yaml_path=None, cfg=local)
    return missing


def _settle(task: Any, num_fewshot: int | None) -> None:
    """Fixes what must not change between two evaluations."""
    forget_cache(task)
    if num_fewshot is not None and task.config.num_fewshot != 0:
        task.set_config("num_fewshot", num_fewshot)
    aggregations = {metric: _safe(aggregate) for metric, aggregate in task.aggregation().items()}
    task.aggregation = lambda: aggregations


def _safe(aggregate: Callable[[Any], float]) -> Callable[[Any], float]:
    """An aggregation that gives infinity where it would overflow, and no bootstrapped standard error.

    lm-eval knows its aggregations by identity: means keep their analytic standard error, a wrapped one has none.
    Bootstrapping would start one process for each core in the middle of training.
    """
    from lm_eval.api.metrics import acc_all, mean

    if aggregate in (mean, acc_all):
        return aggregate

    @functools.wraps(aggregate)
    def wrapped(items: Any) -> float:
        try:
            return aggregate(items)
        except OverflowError:
            return math.inf

    return wrapped


def _refuse_repeats(loaded: LoadedTasks) -> None:
    owner: dict[str, str] = {}
    for name, entry in loaded.entries.items():
        for task in (leaf for item in entry for leaf in _leaves(item)):
            first = owner.setdefault(_name(task), name)
            if first != name:
                raise InputError(
                    f"evaluation tasks: {_name(task)} is asked for twice, by {first} and by {name}; drop one"
                )


def _groups(item: Any) -> list[Any]:
    from lm_eval.api.group import Group

    return [item, *item.get_all_groups()] if isinstance(item, Group) else []


def _name(task: Any) -> str:
    """lm-eval's `task_name` draws random letters from Python's generator even where the task has a name."""
    return task.config.task or task.task_name


def _leaves(item: Any) -> list[Any]:
    from lm_eval.api.group import Group

    return item.get_all_tasks() if isinstance(item, Group) else [item]
