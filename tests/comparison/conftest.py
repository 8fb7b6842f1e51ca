"""A comparison of two tiny arms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def comparison(tiny_config: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the YAML file of a comparison of tiny runs, with the given keys in place of the usual ones."""

    def write(**changes: Any) -> Path:
        values = {
            "name": "tiny_arms",
            "base": str(tiny_config),
            "arms": {
                "relu": {"model.decoder.activation.name": "relu"},
                "polynorm": {"model": {"decoder": {"activation": {"name": "polynorm"}}}},
            },
            "baseline": "relu",
            "seeds": [1, 2],
        } | changes
        path = tmp_path / "comparison.yaml"
        path.write_text(
            yaml.safe_dump({key: value for key, value in values.items() if value is not None}, sort_keys=False)
        )
        return path

    return write


@pytest.fixture
def runs_in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The runs of a comparison in forks of this process, which has imported torch already; the commands that ran."""
    import multiprocessing
    import os
    import sys

    from lightning_polycom.comparison import local, processes

    commands = []

    def child(command: list[str], log: Path) -> None:
        from lightning_polycom.cli import main

        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
        sys.argv = ["polycom", *command[3:]]
        main()

    def run(command: list[str], log: Path, *_: Any, **__: Any) -> int:
        assert command[:3] == [sys.executable, "-m", "lightning_polycom"]
        commands.append(command[3:])
        log.parent.mkdir(parents=True, exist_ok=True)
        process = multiprocessing.get_context("fork").Process(target=child, args=(command, log))
        process.start()
        process.join()
        return process.exitcode

    for module in (local, processes):
        monkeypatch.setattr(module, "run_process", run)
    return commands
