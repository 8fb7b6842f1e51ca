"""`polycom analyze activation`: an activation's value and derivative as a picture."""

import sys
from dataclasses import dataclass
from pathlib import Path

from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError


@dataclass
class CurveOptions:
    """Where to draw to, and over which inputs.

    Args:
        output: Folder for the PNG file.
        std: Standard deviation of the normal row over which the curve is drawn.
    """

    output: str = "figures"
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise InputError(f"std: found {self.std}; it must be above 0")


def main() -> None:
    """Parses the options, draws, and prints the path of the picture."""
    activation = OneLineParser(description="Draw an activation and its derivative; of a checkpoint, every layer's.")
    activation.add_argument("target", help="A registered name, an import path, a .ckpt file or a run's folder.")
    activation.add_class_arguments(CurveOptions, as_group=False)
    parser = OneLineParser(prog="polycom analyze", description="Look into activations and trained decoders.")
    parser.add_subcommands().add_subcommand("activation", activation, help="draw activation and derivative")
    values = parser.parse_args(sys.argv[2:]).activation.as_dict()
    target = values.pop("target")
    print(activation_figure(target, CurveOptions(**values)))


def activation_figure(target: str, options: CurveOptions) -> Path:
    """Draws what `target` means and returns the path of the PNG.

    Raises:
        InputError: `target` is neither an activation nor a checkpoint.
    """
    from lightning_polycom.analysis.activation_curve import activation_curve
    from lightning_polycom.analysis.curve_figure import draw_curves

    label, activations = _activations(target)
    curves = {layer: activation_curve(activation, options.std) for layer, activation in activations.items()}
    path = Path(options.output) / f"activation-{label}.png"
    draw_curves(curves, f"{label}, over a normal row of standard deviation {options.std:g}", path)
    return path


def _activations(target: str) -> tuple[str, dict]:
    """A label for the file, and activations by the label of their line."""
    from lightning_polycom.activations import build_activation

    if Path(target).exists() or "/" in target or target.endswith(".ckpt"):
        from lightning_polycom.checkpoints import load_decoder, locate_checkpoint
        from lightning_polycom.checkpoints.locate import run_folder_of

        file = locate_checkpoint(target)
        blocks = load_decoder(file)[0].blocks
        run = run_folder_of(file.absolute())
        name = f"{run.parent.name}-{run.name}-{file.stem}"
        return name, {f"layer {layer}": block.feed_forward.activation for layer, block in enumerate(blocks)}
    return target, {target: build_activation(target)}
