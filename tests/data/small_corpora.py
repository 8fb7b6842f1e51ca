"""Real text that is always there, cut into small documents."""

import argparse
import ast
import inspect
import json
import textwrap
import typing
from pathlib import Path


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Writes rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def library_documents(prefix: str, count: int) -> list[dict]:
    """Rows cut from the running Python's own sources: real text that is always there."""
    text = "".join(inspect.getsource(module) for module in (argparse, typing, textwrap, ast))
    size = len(text) // count
    return [{"id": f"{prefix}{n}", "text": text[n * size : (n + 1) * size]} for n in range(count)]
