"""Meters on a powercap tree as the kernel lays it out, and on a stand-in for NVML."""

import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from mains import RANGE, draw, make_zone

from lightning_polycom.training import energy_meters
from lightning_polycom.training.energy_meters import open_gpu, open_meter, open_packages

UUID = "8e1ad4f2-0c7b-4d9e-a8a1-0f3a7c2b5d64"


def test_packages_are_added_up_and_their_parts_are_not(tmp_path):
    zones = [make_zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 1_000_000 * n) for n in range(2)]
    parts = [make_zone(tmp_path, *zone) for zone in (("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram"))]
    parts += [make_zone(tmp_path, "intel-rapl:2", "psys"), make_zone(tmp_path, "intel-rapl-mmio:0", "package-0")]
    meter = open_packages(tmp_path)
    assert meter.read() == 0.0
    for zone, joules in zip([*zones, *parts], (3, 4, 100, 200, 400, 800), strict=True):
        draw(zone, joules % 50)
    assert meter.read() == pytest.approx(7.0)
    assert meter.read() == 0.0


def test_a_counter_that_wraps_around(tmp_path):
    zone = make_zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_500_000)
    make_zone(tmp_path, "intel-rapl:1", "package-1")
    meter = open_packages(tmp_path)
    for _ in range(5):
        draw(zone, 40)
        assert meter.read() == pytest.approx(40.0)


def test_packages_that_are_absent_or_may_not_be_read(tmp_path):
    assert open_packages(tmp_path / "no such folder") is None
    make_zone(tmp_path, "intel-rapl:0", "psys")
    assert open_packages(tmp_path) is None
    # As root every file can be read; a folder cannot, like another's file.
    zone = make_zone(tmp_path, "intel-rapl:1", "package-0")
    (zone / "energy_uj").unlink()
    (zone / "energy_uj").mkdir()
    assert open_packages(tmp_path) is None


def test_a_counter_that_goes_away(tmp_path):
    zone = make_zone(tmp_path, "intel-rapl:0", "package-0")
    meter = open_packages(tmp_path)
    (zone / "energy_uj").unlink()
    assert math.isnan(meter.read())


def test_one_process_of_a_machine_reads_its_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(energy_meters, "POWERCAP", tmp_path)
    zone = make_zone(tmp_path, "intel-rapl:0", "package-0")
    meters = [open_meter(torch.device("cpu"), local_rank) for local_rank in range(2)]
    draw(zone, 5)
    assert [meter.read() for meter in meters] == [5.0, 0.0]
    assert open_meter(torch.device("meta"), 0) is None


class Nvml(ModuleType):
    """What the meters use of pynvml: devices by UUID, whose energy counters are in `millijoules`."""

    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        pass

    def __init__(self, split=None, driver=True):
        super().__init__("pynvml")
        self.millijoules, self.split, self.driver = {f"GPU-{UUID}": 10**15, "GPU-another": 7}, split, driver

    def nvmlInit(self):
        if not self.driver:
            raise self.NVMLError

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid not in self.millijoules:
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetMigMode(self, handle):
        if self.split is None:
            raise self.NVMLError
        return [int(self.split), int(self.split)]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.millijoules[handle] is None:
            raise self.NVMLError
        return self.millijoules[handle]


@pytest.mark.parametrize("split", [None, False])
def test_a_gpu_is_found_by_its_uuid(monkeypatch, split):
    nvml = Nvml(split)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = open_gpu(UUID)
    assert meter.read() == 0.0
    nvml.millijoules["GPU-another"] += 10**6
    nvml.millijoules[f"GPU-{UUID}"] += 2500
    assert meter.read() == 2.5 and meter.read() == 0.0 and not meter.wraps
    nvml.millijoules[f"GPU-{UUID}"] = None
    assert math.isnan(meter.read())


def test_a_gpu_without_a_counter_of_its_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert open_gpu(UUID) is None
    old = Nvml()
    old.millijoules[f"GPU-{UUID}"] = None
    for nvml in (Nvml(driver=False), Nvml(split=True), old):
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        assert open_gpu(UUID) is None
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    assert open_gpu("of no device") is None
