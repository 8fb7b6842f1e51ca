"""Settings and data that every test can ask for."""

import os

# Before torch is imported: with a busy neighbour, two spinning threads are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Local data only: a test that would reach for a hub must fail at once, not wait.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import json
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real corpora, tokenizers and benchmark questions; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder of real data, ../shared/data, which is not part of this repository")
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two small domains of real text: sources of the standard library, and its help topics."""
    from pydoc_data.topics import topics

    from lightning_polycom.data.preparation import PrepareConfig, prepare

    folder = tmp_path_factory.mktemp("text")
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted([*library.glob("email/*.py"), *library.glob("json/*.py"), *library.glob("asyncio/*.py")])
    texts = {"code": {p.name: p.read_text(encoding="utf-8") for p in sources}, "prose": topics}
    for domain, documents in texts.items():
        lines = [json.dumps({"id": name, "text": text}) for name, text in documents.items() if text]
        (folder / f"{domain}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = PrepareConfig(
        sources=[f"{domain}={folder / domain}.jsonl" for domain in texts],
        vocab_size=600,
        validation_fraction=0.1,
        questions_per_domain=12,
    )
    prepare(config, folder / "shards")
    return folder / "shards"


@pytest.fixture
def tiny_config(tmp_path: Path, prepared: Path) -> Path:
    """A YAML file of a complete run that takes seconds."""
    values = {
        "seed_everything": 7,
        "run": {"name": "tiny", "root": str(tmp_path / "runs")},
        "model": {
            "seed": "${seed_everything}",
            "compile": False,
            "decoder": {
                "vocab_size": 600,
                "hidden_size": 32,
                "num_layers": 2,
                "num_heads": 2,
                "intermediate_size": 64,
                "max_sequence_length": "${data.sequence_length}",
                "activation": {"name": "polynorm"},
            },
            "optimizer": {"learning_rate": 0.003},
            "schedule": {"warmup_steps": 2},
        },
        "data": {
            "folder": str(prepared),
            "sequence_length": 64,
            "global_batch_size": 4,
            "micro_batch_size": 4,
            "max_validation_tokens": 1024,
        },
        "trainer": {
            "accelerator": "cpu",
            "precision": "32-true",
            "max_steps": 8,
            "val_check_interval": 4,
            "log_every_n_steps": 2,
        },
        "checkpoint": {"every_n_steps": 4},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def _leave_process_group(environment: dict[str, str]) -> None:
    """What the end of a command's process does: a group of one, and its port, must not meet the next command."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def polycom(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., Outcome]:
    """Runs a `polycom` command in this process, as the shell would, from the repository's root."""
    from lightning_polycom.cli import main

    monkeypatch.chdir(ROOT)

    def run(*arguments: object) -> Outcome:
        monkeypatch.delenv("POLYCOM_RUN_VERSION", raising=False)
        monkeypatch.setattr(sys, "argv", ["polycom", *map(str, arguments)])
        capfd.readouterr()
        code, environment = 0, dict(os.environ)
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            _leave_process_group(environment)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run
