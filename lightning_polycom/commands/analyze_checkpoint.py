"""`polycom analyze checkpoint`: ranks, similarity, activation statistics and coefficients of a trained decoder."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from lightning_polycom.errors import InputError

if TYPE_CHECKING:
    from lightning_polycom.analysis.probe_windows import ProbeWindows
    from lightning_polycom.data.shard_selection import ShardSelection


@dataclass
class CheckpointOptions:
    """What to read and where to write.

    Args:
        data: A folder made by `polycom prepare` whose validation domains are read; default the run's own validation
            text. false reads no text, and leaves out similarity and activation statistics.
        num_tokens: Validation tokens to read, in equal parts from all domains and rounded up to whole sequences.
        output: Folder for pictures, tables and the JSON file; default figures in the run's folder, and for the JSON
            file its folder probes, where the run's own analyses are.
        precision: fp32 or bf16; default that of the training run.
        device: Where to compute; default a GPU if there is one.
    """

    data: bool | str | None = None
    num_tokens: int = 16384
    output: str | None = None
    precision: Literal["fp32", "bf16"] | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise InputError(f"num_tokens: found {self.num_tokens}; it must be at least 1")
        if self.data is True:
            raise InputError("data: found true; name a folder made by polycom prepare, or false for none")
        if self.output is not None and (Path(self.output) / "run.json").exists():
            # TensorBoard would stop following the file that the run itself writes.
            raise InputError(
                f"output: {self.output} is a run's folder, whose tb is the run's; name another, such as "
                f"{Path(self.output) / 'figures'}"
            )


def analyze_checkpoint(checkpoint: Path, options: CheckpointOptions) -> list[Path]:
    """Analyses one checkpoint, file or folder; returns the paths of what was written.

    Raises:
        InputError: no validation text to read, or text of another tokenizer.
    """
    from lightning_polycom.analysis.probe import analyze_text, analyze_weights
    from lightning_polycom.analysis.probe_files import json_name, write_analysis
    from lightning_polycom.checkpoints import load_decoder
    from lightning_polycom.checkpoints.load import read_step
    from lightning_polycom.checkpoints.locate import run_folder_of
    from lightning_polycom.evaluation.live_decoder import evaluation_precision, placed
    from lightning_polycom.training.run_folder import read_record

    run = run_folder_of(checkpoint.absolute())
    record = read_record(run)
    windows = None if options.data is False else _windows(run, record, options)
    decoder = placed(load_decoder(checkpoint)[0], options.device)
    step = read_step(checkpoint)
    found = analyze_weights(decoder, _track("singular values"))
    if windows is not None:
        precision = options.precision or evaluation_precision(record["precision"])
        found |= analyze_text(decoder, windows, precision, _track("reading text"))
    output = Path(options.output) if options.output else run / "figures"
    table = (Path(options.output) if options.output else run / "probes") / json_name(step)
    write_analysis(table, step, found)
    return [table, *_write_figures(output, f"{run.parent.name}-{run.name}", step, found)]


def _write_figures(output: Path, name: str, step: int, found: dict[str, Any]) -> list[Path]:
    """Tables, pictures and event files; returns their paths, of the event files the folder."""
    from torch.utils.tensorboard import SummaryWriter

    from lightning_polycom.analysis.curve_figure import write_event, write_picture
    from lightning_polycom.analysis.probe_figures import draw_analysis
    from lightning_polycom.analysis.probe_files import analysis_scalars, write_tables

    label, events = f"{name}-step-{step:08d}", output / "tb"
    paths = write_tables(output, f"analysis-{label}", found)
    for kind, figure in draw_analysis(found, label).items():
        paths.append(output / f"analysis-{label}-{kind}.png")
        write_picture(figure, paths[-1])
        # The step is not in the tag, so that TensorBoard has a slider over the checkpoints of a run.
        write_event(figure, events, f"analysis/{name}/{kind}", step)
    with SummaryWriter(str(events)) as writer:
        for tag, value in analysis_scalars(found).items():
            writer.add_scalar(tag.replace("analysis/", f"analysis/{name}/", 1), value, step)
    return [*paths, events]


def _windows(run: Path, record: dict[str, Any], options: CheckpointOptions) -> "ProbeWindows":
    """The text to read: that of `options.data`, or the run's own.

    Raises:
        InputError: there is none, or it was made with another tokenizer than the run's.
    """
    from lightning_polycom.analysis.probe_windows import ProbeWindows
    from lightning_polycom.data.training_data import TrainingData

    settings = _data_settings(run)
    try:
        data = TrainingData(_selection(settings, record, options.data))
        if record["tokenizer"].get("sha256", data.tokenizer.sha256) != data.tokenizer.sha256:
            raise InputError(f"data: {data.selection} was made with another tokenizer than the run's")
        length = settings.get("sequence_length") or _longest_sequence(run)
        separate = settings.get("separate_documents", False)
        return ProbeWindows(data.validation, length, options.num_tokens, separate)
    except InputError as error:
        remedy = "name a folder made by polycom prepare with the run's tokenizer in --data, or give --data false"
        raise InputError(f"{str(error).split(';')[0]}; {remedy}") from error


def _selection(settings: dict[str, Any], record: dict[str, Any], folder: str | None) -> "ShardSelection":
    from lightning_polycom.data.shard_selection import ShardSelection

    if folder is None and not settings:  # of an imported run, which may name prepared text
        folder = record.get("data_folder")
    if folder is not None:
        return ShardSelection(Path(folder))
    keys = ("train", "validation", "tokenizer", "eos_token", "dtype")
    found = {key: settings.get(key) for key in keys}
    return ShardSelection(None if settings.get("folder") is None else Path(settings["folder"]), **found)


def _data_settings(run: Path) -> dict[str, Any]:
    """The data section of the run's config.yaml; empty for an imported run."""
    return _config(run).get("data") or {}


def _longest_sequence(run: Path) -> int:
    return _config(run)["model"]["decoder"]["max_sequence_length"]


def _config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"checkpoint: {path} cannot be read; keep a checkpoint in the folder of its run") from error


def _track(what: str) -> Callable[[Sequence], Iterable]:
    """A progress bar; nothing where the output is no terminal."""
    from rich.console import Console
    from rich.progress import track

    def tracked(steps: Sequence) -> Iterable:
        console = Console()
        return track(steps, what, console=console, transient=True, disable=not console.is_terminal)

    return tracked
