"""The memory that may still be taken, from files as Linux writes them."""

import pytest

from lightning_polycom.benchmarking import available_memory


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Writes a container's limit and usage, and makes them the only ones."""
    limit, usage = tmp_path / "max", tmp_path / "current"

    def write(allowed: str, used: str):
        limit.write_text(allowed)
        usage.write_text(used)

    monkeypatch.setattr(available_memory, "CGROUPS", ((str(limit), str(usage)),))
    return write


def test_without_a_container_it_is_the_systems(monkeypatch):
    monkeypatch.setattr(available_memory, "CGROUPS", ())
    assert 2**20 < available_memory.available_memory_bytes() < 2**50


def test_the_tighter_limit_counts(container, monkeypatch):
    monkeypatch.setattr(available_memory, "_free_of_system", lambda: 1000)
    for files, expected in (
        (("900\n", "400\n"), 500),
        (("max\n", "400\n"), 1000),
        (("300", "400"), 0),
        (("", ""), 1000),
    ):
        container(*files)
        assert available_memory.available_memory_bytes() == expected
