"""`polycom lm_eval`: lm-eval's own command line, to which the model `polycom` is known."""

import sys

from lm_eval.__main__ import cli_evaluate

import lightning_polycom.evaluation  # noqa: F401  registers the model


def main() -> None:
    """Hands everything after `polycom lm_eval` to lm-eval."""
    sys.argv = ["lm_eval", *sys.argv[2:]]
    cli_evaluate()
