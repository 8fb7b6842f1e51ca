"""A JSON object from a file that others wrote."""

import json
from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError


def read_json_object(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The object in `path`; `what` begins the message of an error and `advice` ends it.

    Raises:
        InputError: no such file, or it holds no JSON object.
    """
    if not path.is_file():
        raise InputError(f"{what}{path} is missing; {advice}")
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{what}{path} is no JSON ({' '.join(str(error).split())}); {advice}") from error
    if not isinstance(value, dict):
        raise InputError(f"{what}{path} holds no JSON object; {advice}")
    return value
