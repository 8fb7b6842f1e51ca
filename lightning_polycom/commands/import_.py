"""`polycom import`: a folder of Hugging Face transformers to the folder of a run."""

import sys
from pathlib import Path

from lightning_polycom.commands.parsing import OneLineParser


def main() -> None:
    """Parses the options, writes the run's folder and says what to do with it."""
    parser = OneLineParser(
        prog="polycom import",
        description="Read a folder of transformers, Llama's, OLMoE's or our own, into a run's folder.",
    )
    parser.add_argument("folder", help="A folder with config.json, safetensors and tokenizer.json.")
    parser.add_argument("--output", required=True, help="Run's folder to create, such as runs/NAME/imported.")
    parser.add_argument("--eos_token", type=str | None, help="End-of-text token, where the folder names none.")
    parser.add_argument(
        "--data_folder", type=str | None, help="Prepared text whose held-out tasks `polycom evaluate` is to find."
    )
    options = parser.parse_args(sys.argv[2:])
    from lightning_polycom.huggingface.import_ import import_folder

    config = import_folder(Path(options.folder), Path(options.output), options.eos_token, options.data_folder)
    active = "" if config.mixture_of_experts is None else f", {config.num_active_parameters:,} of them for a token"
    print(f"{options.output}: {config.activation.name}, {config.num_parameters:,} parameters{active}")
    print(f"  score it      polycom evaluate {options.output} --tasks '[arc_easy]'")
    print(f"  let it write  polycom generate {options.output}")
