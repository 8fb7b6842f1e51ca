"""Argument parsing with errors of one line."""

import difflib
import re
import sys
from typing import NoReturn

import jsonargparse
import yaml

# Interpolations such as ${data.sequence_length} are resolved after the overrides, not when a file is read.
PARSER_MODE = "omegaconf+"


def one_line(parser: jsonargparse.ArgumentParser, message: str) -> str:
    """The error as one line, with the nearest known option if a key is misspelt."""
    message = re.sub(r"^Parser key ", "", re.sub(r"\s+", " ", message).strip())
    wrong = re.search(r"(?:accept option|unrecognized arguments:|Key) '?(?:--)?([\w.]+)", message, re.I)
    hint = _near_option(parser, wrong[1]) if wrong else ""
    return f"{message}{hint}"


def one_line_error(parser: jsonargparse.ArgumentParser, message: str) -> NoReturn:
    """Prints the error as one line and exits with code 2."""
    print(f"polycom: error: {one_line(parser, message)}", file=sys.stderr)
    sys.exit(2)


def empty_sections(path: str) -> list[str]:
    """Dotted keys of a YAML file whose value is an empty mapping: no key below them can be checked."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return _empty_keys(yaml.safe_load(file) or {}, "")


def known_keys(parser: jsonargparse.ArgumentParser) -> set[str]:
    """All dotted option names of a parser, its subcommands' included, and the sections that hold them."""
    keys: set[str] = set()
    for action in parser._actions:
        for child in getattr(action, "choices", None) or {}:
            sub = action.choices[child] if isinstance(action.choices, dict) else None
            if isinstance(sub, jsonargparse.ArgumentParser):
                keys |= known_keys(sub)
        parts = str(action.dest).split(".")
        keys |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return keys


def _empty_keys(value: object, prefix: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    if not value and prefix:
        return [prefix]
    return [key for name, item in value.items() for key in _empty_keys(item, f"{prefix}.{name}".lstrip("."))]


def _near_option(parser: jsonargparse.ArgumentParser, wrong: str) -> str:
    keys = known_keys(parser)
    wrong = re.sub(r"^(fit|validate)\.", "", wrong)
    near = difflib.get_close_matches(wrong, keys, n=1, cutoff=0.6)
    if not near:
        last = {key.rsplit(".", 1)[-1]: key for key in keys}
        near = [last[k] for k in difflib.get_close_matches(wrong.rsplit(".", 1)[-1], last, n=1, cutoff=0.6)]
    return f"; did you mean '{near[0]}'?" if near else ""


class OneLineParser(jsonargparse.ArgumentParser):
    """A parser for the commands that are not LightningCLI's."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"parser_mode": PARSER_MODE, "allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line, exit code 2."""
        one_line_error(self, message)
