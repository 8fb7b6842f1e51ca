"""A JSON object from a folder that others wrote."""

import json
from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`.

    Raises:
        InputError: no such file, or it holds no JSON object.
    """
    if not path.is_file():
        raise InputError(f"import: {path} is missing; give a folder that transformers has saved")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"import: {path} is no JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise InputError(f"import: {path} holds no JSON object; copy it again")
    return value
