"""A comparison's folder, and comparison.json in it: which runs there are, and how far each has come."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lightning_polycom.atomic import write_json
from lightning_polycom.comparison.comparison_file import FILE
from lightning_polycom.comparison.config import ComparisonConfig, RunKey
from lightning_polycom.comparison.plan import ArmPlan
from lightning_polycom.errors import InputError
from lightning_polycom.json_object import read_json_object

ADVICE = "delete the folder, or give the comparison another name"


@dataclass
class RunEntry:
    """One run and how far it has come.

    Attributes:
        name: Its arm.
        seed: Its seed.
        learning_rate: Its peak learning rate where a grid of them is compared.
        run: Its folder, relative to the comparison's.
        status: `pending` is not begun, or interrupted.
        error: Why it has failed, in one line.
        job: Its number on a cluster.
    """

    name: str
    seed: int
    learning_rate: float | None
    run: str
    status: Literal["pending", "running", "finished", "failed"] = "pending"
    error: str | None = None
    job: str | None = None

    @property
    def key(self) -> RunKey:
        """Which run it is."""
        return RunKey(self.name, self.seed, self.learning_rate)

    def as_dict(self) -> dict[str, Any]:
        """As comparison.json holds it; without what is not known."""
        values = asdict(self)
        return {key: value for key, value in values.items() if value is not None or key == "learning_rate"}


class ComparisonRecord:
    """What comparison.json holds.

    Attributes:
        folder: Where it lies, and the runs below it.
        entries: The runs, in the order in which they are made.
        seconds_per_step: Measured by arm before the runs, where training time is held equal.
    """

    def __init__(self, folder: Path, config: ComparisonConfig):
        """Reads what is there of it; writes nothing.

        Raises:
            InputError: the file is damaged.
        """
        self.folder, self.config = folder, config
        self.path, stored = folder / FILE, {}
        if self.path.exists():
            stored = read_json_object(self.path, "", ADVICE)
        try:
            known = {entry.key: entry for entry in (RunEntry(**values) for values in stored.get("arms", []))}
            self.seconds_per_step: dict[str, float] = dict(stored.get("seconds_per_step") or {})
            self._plans: dict[str, dict[str, Any]] = dict(stored.get("plans", {}))
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{self.path}: is damaged ({error}); {ADVICE}") from error
        wanted = [RunEntry(*key, run=f"{key.arm}/{key.version}") for key in config.runs()]
        self.entries = [known.get(entry.key, entry) for entry in wanted]

    def keep_plans(self, arms: list[ArmPlan]) -> None:
        """Writes the plan of each arm, once it is sure that runs that are there were made by it.

        Raises:
            InputError: the settings of an arm whose runs have begun are others now.
        """
        begun = {entry.name for entry in self.entries if entry.status != "pending" or self.run_folder(entry).exists()}
        for arm in arms:
            before = self._plans.get(arm.name)
            if arm.name in begun and before is not None and before["settings_digest"] != arm.digest:
                raise InputError(f"arms.{arm.name}: {self.folder} has runs of it with other settings; {ADVICE}")
        self._plans = {arm.name: arm.as_dict() for arm in arms}
        self.write()

    def run_folder(self, entry: RunEntry) -> Path:
        """Where the run lies."""
        return self.folder / entry.run

    def update(self, entry: RunEntry, status: str, error: str | None = None) -> None:
        """Changes how far a run has come, and writes."""
        entry.status, entry.error = status, error
        self.write()

    def write(self) -> None:
        """Writes comparison.json, atomically."""
        config = self.config
        values = {
            "name": config.name,
            "baseline": config.baseline,
            "equal": config.equal,
            "tolerance": config.tolerance,
            "arms": [entry.as_dict() for entry in self.entries],
            "plans": self._plans,
        }
        if self.seconds_per_step:
            values["seconds_per_step"] = self.seconds_per_step
        write_json(self.path, values)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Holds the comparison's folder for this process, and for those to which it passes the file number it yields.

    Raises:
        InputError: another process, or a run that one has left behind, holds it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{folder}: is being run by another process; wait for it, or end it first") from error
        yield lock
    finally:
        os.close(lock)
