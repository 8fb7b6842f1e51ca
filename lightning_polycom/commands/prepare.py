"""`polycom prepare`: text to token shards."""

import sys

from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.data.preparation import PrepareConfig, prepare


def main() -> None:
    """Parses the options and prepares."""
    parser = OneLineParser(prog="polycom prepare", description="Turn text into token shards that `fit` trains on.")
    parser.add_argument("--output", required=True, help="Folder to write, such as data/mine.")
    parser.add_class_arguments(PrepareConfig, as_group=False)
    options = parser.parse_args(sys.argv[2:])
    values = options.as_dict()
    output = values.pop("output")
    prepare(PrepareConfig(**values), output)
