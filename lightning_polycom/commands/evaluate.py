"""`polycom evaluate`: lm-eval tasks on a checkpoint."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Console
from rich.progress import track

from lightning_polycom.callbacks import DownstreamEvaluation
from lightning_polycom.callbacks.run_summary import AVERAGE_OF, task_table
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
        config: A YAML file whose evaluation section goes before the run's, such as configs/evaluation/dense_six.yaml.
        tasks: Names of lm-eval tasks or groups, as a list or separated by commas.
        metrics: The metric of each task or group that enters the average, by name.
        include_path: Folders of task YAML files beside lm-eval's own, likewise.
        limit: Only the first so many documents of each task.
        num_fewshot: Examples before each question.
        batch_tokens: Tokens per forward pass.
        seed: Draws the few-shot examples.
        log_samples: Also write every question with its log-likelihoods, into a folder beside the results.
        precision: fp32 or bf16; default that of the training run.
        output: JSON file for the results, in lm-eval's own form; default evals/<checkpoint>.evaluate.json in the run's
            folder, beside what the run itself wrote.
        device: Where to compute; default a GPU if there is one.
    """

    config: str | None = None
    tasks: list[str] | str | None = None
    metrics: dict[str, str] | None = None
    include_path: list[str] | str | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    batch_tokens: int | None = None
    seed: int | None = None
    log_samples: bool | None = None
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
    results = run_evaluation(lm, loaded, **{key: settings[key] for key in ("limit", "seed", "metrics", "log_samples")})
    output = Path(options.output) if options.output else folder / "evals" / f"{checkpoint.stem}.evaluate.json"
    write_results(output, results)
    console = Console()
    console.print(task_table(scalars(results), AVERAGE_OF[bool(settings["metrics"])]))
    for name, reason in loaded.failed.items():
        console.print(f"task {name} failed: {reason}", highlight=False)
    console.print(f"{checkpoint} -> {output}", highlight=False, soft_wrap=True)
    return loaded.failed


DEFAULTS = {"seed": 1234, "metrics": None, "log_samples": False}  # of runs from before these settings


def _settings(checkpoint: Path, options: EvaluateOptions) -> dict[str, Any]:
    """The options, completed by the file that they name, then by the evaluation section of the run's config.yaml.

    The run's metrics belong to its own tasks, and are not taken with others.
    """
    config = run_folder_of(checkpoint) / "config.yaml"
    if not config.is_file():
        raise InputError(f"checkpoint: {config} is missing; keep a checkpoint in the folder of its run")
    settings = {**DEFAULTS, **_section(config)}
    keys = ("tasks", "metrics", "include_path", "limit", "num_fewshot", "batch_tokens", "seed", "log_samples")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    file = _checked_section(Path(options.config)) if options.config else {}
    if "tasks" in file or "tasks" in given:
        settings["metrics"] = None
    settings |= file | given
    for key in ("tasks", "include_path"):
        if isinstance(settings[key], str):
            settings[key] = [name.strip() for name in settings[key].split(",")]
    if not settings["tasks"]:
        raise InputError("tasks: the run's config.yaml names no evaluation.tasks; give --tasks '[arc_easy, ...]'")
    return {key: settings[key] for key in keys}


def _section(path: Path) -> dict[str, Any]:
    """The evaluation section of a YAML file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is no YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict) or not isinstance(values.get("evaluation"), dict):
        raise InputError(f"config: {path} has no section evaluation; name a file such as those in configs/evaluation")
    return values["evaluation"]


def _checked_section(path: Path) -> dict[str, Any]:
    """The evaluation section of a user's file, of the keys and types that a run has there."""
    section = _section(path)
    parser = OneLineParser(prog=f"polycom evaluate: {path}")
    parser.add_class_arguments(DownstreamEvaluation, as_group=False)
    return parser.parse_object(section, defaults=False).as_dict()


def _track(steps: Sequence[int]) -> Iterable[int]:
    """A progress bar over the batches of each kind of request; nothing where the output is no terminal."""
    console = Console()
    return track(steps, "evaluating", console=console, transient=True, disable=not console.is_terminal)
