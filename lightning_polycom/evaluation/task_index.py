"""Finds task names in the user's folders and in lm-eval's, reading as few of lm-eval's 14,000 files as possible."""

import difflib
from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError

# Folders under lm_eval/tasks; every other name costs the complete index, 5 to 10 seconds.
STOCK_FOLDERS = {
    "ai2_arc": "arc",
    "arc_challenge": "arc",
    "arc_easy": "arc",
    "boolq": "super_glue/boolq",
    "cb": "super_glue/cb",
    "commonsense_qa": "commonsense_qa",
    "copa": "super_glue/copa",
    "gsm8k": "gsm8k",
    "hellaswag": "hellaswag",
    "lambada_openai": "lambada",
    "lambada_standard": "lambada",
    "logiqa": "logiqa",
    "mmlu": "mmlu/default",
    "multirc": "super_glue/multirc",
    "nq_open": "nq_open",
    "openbookqa": "openbookqa",
    "piqa": "piqa",
    "race": "race",
    "record": "super_glue/record",
    "sciq": "sciq",
    "social_iqa": "siqa",
    "triviaqa": "triviaqa",
    "wic": "super_glue/wic",
    "wikitext": "wikitext",
    "winogrande": "winogrande",
}


def stock_folder(name: str) -> str | None:
    """The folder of a stock task under lm_eval/tasks, or None if only the complete index can tell."""
    return STOCK_FOLDERS.get("mmlu" if name.startswith("mmlu_") else name)


def index_tasks(names: list[str], include: list[Path]) -> Any:
    """An lm-eval TaskManager that knows `names` and all that they refer to; `include` wins over stock tasks.

    Raises:
        InputError: a folder of `include` is missing, or a name is unknown; the message has near matches.
    """
    from lm_eval.tasks import TaskManager

    for folder in include:
        if not folder.is_dir():
            raise InputError(f"evaluation include_path: {folder} is not a folder; name one that holds task YAML files")
    stock: list[Path] = []
    root = Path(_lm_eval_tasks_folder())
    while True:
        manager = TaskManager(include_path=[*stock, *include], include_defaults=False)
        _, missing = names_reached(names, manager.task_index)
        if not missing:
            return manager
        folders = {stock_folder(name) for name in missing}
        new = sorted(root / folder for folder in folders if folder and root / folder not in stock)
        if None in folders or not new:
            break
        stock += new
    manager = TaskManager(include_path=list(include))
    _, missing = names_reached(names, manager.task_index)
    if missing:
        raise _unknown(sorted(missing), manager.all_tasks, include)
    return manager


def names_reached(names: list[str], index: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The names in `index` that `names` stand for, through groups and tags, and the names that are missing in it."""
    found: set[str] = set()
    missing: set[str] = set()
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name in found or name in missing:
            continue
        if name not in index:
            missing.add(name)
            continue
        found.add(name)
        entry = index[name]
        open_names += sorted(entry.tags) if entry.kind.name == "TAG" else _members(entry.cfg or {}, index)
    return found, missing


def _members(config: dict[str, Any], index: dict[str, Any]) -> list[str]:
    """The names that a group's definition refers to; a task has none, tasks defined in place are not names."""
    if not isinstance(config.get("task"), list):
        return []
    names = []
    for member in config["task"]:
        if isinstance(member, str):
            names.append(member)
        elif "group" in member:
            names += [member["group"]] if member["group"] in index else _members(member, index)
        elif member["task"] in index or "output_type" not in member:
            names.append(member["task"])
    return names


def _lm_eval_tasks_folder() -> str:
    import lm_eval.tasks

    return str(Path(lm_eval.tasks.__file__).parent)


def _unknown(missing: list[str], known: list[str], include: list[Path]) -> InputError:
    near = [match for name in missing for match in difflib.get_close_matches(name, known, n=3)]
    hint = f"near matches: {', '.join(near)}" if near else "there is no near match"
    folders = ", ".join(str(folder) for folder in include) or "no include_path"
    return InputError(
        f"evaluation tasks: {', '.join(missing)} not found among lm-eval's own tasks and in {folders}; {hint}"
    )
