"""`polycom analyze`: an activation's value and derivative as a picture, or what is in a trained decoder."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lightning_polycom.activations import Activation, ActivationConfig, build_activation
from lightning_polycom.checkpoints import load_decoder, locate_checkpoint
from lightning_polycom.checkpoints.load import read_step
from lightning_polycom.checkpoints.locate import run_folder_of
from lightning_polycom.commands.analyze_checkpoint import CheckpointOptions, analyze_checkpoint
from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError

# Options that change how an activation is trained, or only from the first step on, not how it is drawn as it starts.
NOT_DRAWN = {"name", "scope", "learning_rate_multiplier", "frozen"}


@dataclass
class CurveOptions:
    """Where to draw to, and over which inputs.

    Args:
        output: Folder for the PNG file; the same picture goes into TensorBoard event files in its folder tb.
        std: Standard deviation of the normal row over which the curve is drawn.
    """

    output: str = "figures"
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise InputError(f"std: found {self.std}; it must be above 0")
        if (Path(self.output) / "run.json").exists():
            # TensorBoard would stop following the file that the run itself writes.
            raise InputError(
                f"output: {self.output} is a run's folder, whose tb is the run's; name another, such as "
                f"{Path(self.output) / 'figures'}"
            )


class Subject(NamedTuple):
    """What is drawn: a name, the step it was trained to, and activations by the label of their line."""

    name: str
    step: int | None
    activations: dict[str, Activation]


def main() -> None:
    """Parses the options, does the analysis that is asked for, and prints the paths of what was written."""
    arguments = sys.argv[2:]
    if arguments and arguments[0] not in ("activation", "checkpoint") and _is_path(arguments[0]):
        arguments = ["checkpoint", *arguments]  # `polycom analyze RUN`
    parser = OneLineParser(
        prog="polycom analyze",
        description="Look into activations and trained decoders. `polycom analyze RUN` is `analyze checkpoint RUN`.",
    )
    forms = parser.add_subcommands()
    forms.add_subcommand("activation", _activation_parser(), help="draw activation and derivative")
    forms.add_subcommand("checkpoint", _checkpoint_parser(), help="ranks, similarity, statistics and coefficients")
    parsed = parser.parse_args(arguments)
    values = parsed[parsed.subcommand].as_dict()
    if parsed.subcommand == "checkpoint":
        target, wanted = values.pop("target"), CheckpointOptions(**values)
        paths = analyze_checkpoint(locate_checkpoint(target), wanted)
    else:
        target, options = values.pop("target"), CurveOptions(values.pop("output"), values.pop("std"))
        settings = {name: value for name, value in values.items() if value is not None}
        paths = activation_figure(target, options, settings)
    for path in paths:
        print(path)


def _activation_parser() -> OneLineParser:
    parser = OneLineParser(
        description="Draw an activation and its derivative, as a PNG file and for TensorBoard; of a checkpoint, "
        "every layer's as it was trained."
    )
    parser.add_argument("target", help="A registered name, an import path, a .ckpt file or a run's folder.")
    parser.add_class_arguments(CurveOptions, as_group=False)
    parser.add_class_arguments(ActivationConfig, as_group=False, skip=NOT_DRAWN)
    return parser


def _checkpoint_parser() -> OneLineParser:
    parser = OneLineParser(
        description="Effective ranks of the feed-forward's matrices, layer similarity and activation statistics over "
        "held-out text, and learned coefficients; as JSON, CSV, PNG and for TensorBoard."
    )
    parser.add_argument("target", help="A .ckpt file, a run's folder (its newest step) or runs/NAME.")
    parser.add_class_arguments(CheckpointOptions, as_group=False)
    return parser


def activation_figure(target: str, options: CurveOptions, settings: dict | None = None) -> tuple[Path, Path]:
    """Draws what `target` means; returns the path of the PNG and the folder of the event files.

    `settings` are options of a named activation, such as {"order": 2}.

    Raises:
        InputError: `target` is neither an activation nor a checkpoint, or has not the option that `settings` names.
    """
    from lightning_polycom.analysis.activation_curve import activation_curve
    from lightning_polycom.analysis.curve_figure import draw_curves, write_event, write_picture

    name, step, activations = _subject(target, settings or {})
    curves = {layer: activation_curve(activation, options.std) for layer, activation in activations.items()}
    label = name if step is None else f"{name}-step-{step:08d}"
    figure = draw_curves(curves, f"{label}, over a normal row of standard deviation {options.std:g}")
    picture, events = Path(options.output) / f"activation-{label}.png", Path(options.output) / "tb"
    write_picture(figure, picture)
    # The step is not in the tag, so that TensorBoard has a slider over the checkpoints of a run.
    write_event(figure, events, f"activation/{name}", step or 0)
    return picture, events


def _subject(target: str, settings: dict) -> Subject:
    if not _is_path(target):
        name = "-".join([target, *(f"{key}={_short(value)}" for key, value in settings.items())])
        from lightning_polycom.analysis.activation_curve import POINTS

        return Subject(name, None, {name: build_activation(target, width=POINTS, **settings)})
    if settings:
        raise InputError(f"{next(iter(settings))}: {target} is a checkpoint and has its own; give it with a name only")
    file = locate_checkpoint(target)
    blocks, run = load_decoder(file)[0].blocks, run_folder_of(file.absolute())
    layers = {f"layer {layer}": block.feed_forward.activation for layer, block in enumerate(blocks)}
    return Subject(f"{run.parent.name}-{run.name}", read_step(file), layers)


def _is_path(target: str) -> bool:
    """Whether a checkpoint or a run's folder is meant."""
    return Path(target).exists() or "/" in target or target.endswith(".ckpt")


def _short(value: object) -> str:
    """An option's value in a file's name."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
