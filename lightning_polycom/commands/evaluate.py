"""`polycom evaluate`: lm-eval tasks on a checkpoint."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Console
from rich.progress import track

from lightning_polycom.callbacks.run_summary import task_table
from lightning_polycom.checkpoints import load_decoder, locate_checkpoint
from lightning_polycom.checkpoints.locate import run_folder_of
from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import DecoderLM, load_tasks, run_evaluation, scalars, write_results
from lightning_polycom.evaluation.live_decoder import evaluation_precision, placed
from lightning_polycom.training.run_folder import read_record


@dataclass
class EvaluateOptions:
    """What to run; an option left out is taken from the run's own evaluation section, so that numbers repeat.

    Args:
        tasks: Names of lm-eval tasks or groups, as a list or separated by commas.
        include_path: Folders of task YAML files beside lm-eval's own, likewise.
        limit: Only the first so many documents of each task.
        num_fewshot: Examples before each question.
        batch_tokens: Tokens per forward pass.
        precision: fp32 or bf16; default that of the training run.
        output: JSON file for the results, in lm-eval's own form; default evals/<checkpoint>.evaluate.json in the run's
            folder, beside what the run itself wrote.
        device: Where to compute; default a GPU if there is one.
    """

    tasks: list[str] | str | None = None
    include_path: list[str] | str | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    batch_tokens: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    output: str | None = None
    device: str | None = None


def main() -> None:
    """Parses the options, evaluates, writes the results and prints them; exit code 1 if a task failed."""
    parser = OneLineParser(prog="polycom evaluate", description="Run lm-eval tasks on a checkpoint.")
    parser.add_argument("checkpoint", help="A .ckpt file, a run's folder (its newest step) or runs/NAME.")
    parser.add_class_arguments(EvaluateOptions, as_group=False)
    values = parser.parse_args(sys.argv[2:]).as_dict()
    checkpoint = locate_checkpoint(values.pop("checkpoint"))
    failed = evaluate(checkpoint, EvaluateOptions(**values))
    if failed:
        sys.exit(1)


def evaluate(checkpoint: Path, options: EvaluateOptions) -> dict[str, str]:
    """Evaluates one checkpoint file; returns the tasks that failed, with the reason of each."""
    if options.output and Path(options.output).is_dir():
        raise InputError(f"output: {options.output} is a folder; name a JSON file in it")
    decoder, tokenizer = load_decoder(checkpoint)
    folder, settings = run_folder_of(checkpoint), _settings(checkpoint, options)
    record = read_record(folder)
    data_folder = record["data_folder"] and Path(record["data_folder"])  # none with shards of other tools
    loaded = load_tasks(settings["tasks"], settings["include_path"] or [], data_folder, settings["num_fewshot"])
    precision = options.precision or evaluation_precision(record["precision"])
    decoder, batch_tokens = placed(decoder, options.device), settings["batch_tokens"]
    lm = DecoderLM(decoder, tokenizer, batch_tokens, precision, _track, tokenizer.bos_token_id)
    results = run_evaluation(lm, loaded, limit=settings["limit"])
    output = Path(options.output) if options.output else folder / "evals" / f"{checkpoint.stem}.evaluate.json"
    write_results(output, results)
    console = Console()
    console.print(task_table(scalars(results)))
    for name, reason in loaded.failed.items():
        console.print(f"task {name} failed: {reason}", highlight=False)
    console.print(f"{checkpoint} -> {output}", highlight=False, soft_wrap=True)
    return loaded.failed


def _settings(checkpoint: Path, options: EvaluateOptions) -> dict[str, Any]:
    """The options, completed by the evaluation section of the run's config.yaml."""
    config = run_folder_of(checkpoint) / "config.yaml"
    if not config.is_file():
        raise InputError(f"checkpoint: {config} is missing; keep a checkpoint in the folder of its run")
    theirs = yaml.safe_load(config.read_text(encoding="utf-8"))["evaluation"]
    keys = ("tasks", "include_path", "limit", "num_fewshot", "batch_tokens")
    settings = {key: theirs[key] if getattr(options, key) is None else getattr(options, key) for key in keys}
    for key in ("tasks", "include_path"):
        if isinstance(settings[key], str):
            settings[key] = [name.strip() for name in settings[key].split(",")]
    if not settings["tasks"]:
        raise InputError("tasks: the run's config.yaml names no evaluation.tasks; give --tasks '[arc_easy, ...]'")
    return settings


def _track(steps: Sequence[int]) -> Iterable[int]:
    """A progress bar over the batches of each kind of request; nothing where the output is no terminal."""
    console = Console()
    return track(steps, "evaluating", console=console, transient=True, disable=not console.is_terminal)
