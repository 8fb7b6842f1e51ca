"""A JSON object from a folder that is imported."""

from pathlib import Path
from typing import Any

from lightning_polycom.json_object import read_json_object


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`.

    Raises:
        InputError: no such file, or it holds no JSON object.
    """
    return read_json_object(path, "import: ", "give a folder that transformers has saved")
