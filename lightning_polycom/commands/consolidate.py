"""`polycom consolidate`: a sharded checkpoint as one file."""

import sys
from dataclasses import dataclass
from pathlib import Path

from lightning_polycom.checkpoints import locate_checkpoint
from lightning_polycom.checkpoints.complete import is_sharded
from lightning_polycom.checkpoints.joining import write_joined
from lightning_polycom.checkpoints.locate import run_folder_of
from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError


@dataclass
class ConsolidateOptions:
    """What to write, and where.

    Args:
        output: The file; default consolidated/step-<n>.ckpt in the run's folder.
        optimizer: Whether the optimizer's states go along, so that training can go on from the file: three times the
            size.
    """

    output: str | None = None
    optimizer: bool = True


def main() -> None:
    """Parses the options, joins the checkpoint and prints where the file lies."""
    parser = OneLineParser(prog="polycom consolidate", description="Join a sharded checkpoint into one file, on CPU.")
    parser.add_argument("checkpoint", help="A sharded checkpoint, a run's folder (its newest step) or runs/NAME.")
    parser.add_class_arguments(ConsolidateOptions, as_group=False)
    values = parser.parse_args(sys.argv[2:]).as_dict()
    checkpoint = locate_checkpoint(values.pop("checkpoint"))
    output = consolidate(checkpoint, ConsolidateOptions(**values))
    print(f"{checkpoint} -> {output}")


def consolidate(checkpoint: Path, options: ConsolidateOptions) -> Path:
    """Joins one sharded checkpoint; returns the file's path.

    Raises:
        InputError: the checkpoint is one file already, incomplete or damaged, or the output exists.
    """
    if not is_sharded(checkpoint):
        raise InputError(f"checkpoint: {checkpoint} is one file already; use it as it is")
    name = checkpoint.name if checkpoint.suffix == ".ckpt" else f"{checkpoint.name}.ckpt"
    output = Path(options.output) if options.output else run_folder_of(checkpoint) / "consolidated" / name
    if output.exists():
        raise InputError(f"output: {output} exists; name another file or remove it")
    write_joined(checkpoint, output, options.optimizer)
    return output
