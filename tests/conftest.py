"""Settings and data that every test can ask for."""

import os

# Before torch is imported: with a busy neighbour, two spinning threads are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Local data only: a test that would reach for a hub must fail at once, not wait.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real corpora, tokenizers and benchmark questions; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder of real data, ../shared/data, which is not part of this repository")
    return folder
