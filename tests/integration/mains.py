"""A powercap tree of the kernel's form, and a callback whose run draws known energy from its counters."""

from pathlib import Path

import lightning as L

from lightning_polycom.training import energy_meters

RANGE = 50_000_000  # microjoules: counters wrap around in the middle of a test
STEP, VALIDATION = 2.0, 100.0  # joules of a step on rank 0, and of a validation batch


def make_zone(powercap: Path, zone: str, name: str, microjoules: int = 0) -> Path:
    """The folder of one zone, such as intel-rapl:0."""
    folder = powercap / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def draw(zone: Path, joules: float) -> None:
    """Moves a zone's counter on, around its range."""
    path = zone / "energy_uj"
    path.write_text(f"{(int(path.read_text()) + round(joules * 1e6)) % RANGE}\n")


class Mains(L.Callback):
    """Draws 2 J in every step, 4 J on rank 1, and 100 J in every validation batch, from the package in `powercap`.

    Args:
        powercap: Folder in which {rank} stands for the rank's number; where it is missing, nothing is drawn.
        gaps: Joules drawn between two steps, by the number of steps completed then.
        vanishes: The step after which the counter is gone.
    """

    def __init__(self, powercap: str, gaps: dict[int, float] | None = None, vanishes: int | None = None):
        self.powercap, self.gaps, self.vanishes = powercap, dict(gaps or {}), vanishes

    def setup(self, trainer, pl_module, stage):
        folder = Path(self.powercap.format(rank=trainer.global_rank))
        energy_meters.POWERCAP, self.zone, self.rank = folder, folder / "intel-rapl:0", trainer.global_rank

    def on_train_batch_start(self, trainer, *_):
        self._draw(self.gaps.pop(trainer.global_step, 0.0))  # before the first micro-batch

    def on_train_batch_end(self, trainer, *_):
        self._draw(STEP * (1 + self.rank))
        if trainer.global_step == self.vanishes:
            (self.zone / "energy_uj").unlink()

    def on_validation_batch_end(self, *_):
        self._draw(VALIDATION)

    def _draw(self, joules):
        if (self.zone / "energy_uj").exists():
            draw(self.zone, joules)
