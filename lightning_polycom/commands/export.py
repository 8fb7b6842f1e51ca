"""`polycom export`: a checkpoint to a folder of Hugging Face transformers."""

import sys
from pathlib import Path

from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.huggingface.options import ExportOptions


def main() -> None:
    """Parses the options, writes the folder and says how to load it."""
    parser = OneLineParser(prog="polycom export", description="Write a checkpoint as a folder of transformers.")
    parser.add_argument("checkpoint", help="A .ckpt file, a run's folder (its newest step) or runs/NAME.")
    parser.add_argument("--output", required=True, help="Folder to write; an earlier export there is replaced.")
    parser.add_class_arguments(ExportOptions, as_group=False)
    values = parser.parse_args(sys.argv[2:]).as_dict()
    checkpoint, output = values.pop("checkpoint"), values.pop("output")
    from lightning_polycom.huggingface.export import export_checkpoint
    from lightning_polycom.huggingface.layouts import OWN_ARCHITECTURE

    architecture = export_checkpoint(checkpoint, Path(output), ExportOptions(**values))
    trust = ", trust_remote_code=True" if architecture == OWN_ARCHITECTURE else ""
    print(f"{output}: {architecture}; AutoModelForCausalLM.from_pretrained({output!r}{trust})")
