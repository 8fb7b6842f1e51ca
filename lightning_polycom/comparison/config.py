"""A comparison as it is written in YAML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from lightning_polycom.errors import InputError

SEEDS = ("seed_everything", "model.seed", "data.seed")
OWNED = (*SEEDS, "run.name", "run.version", "ckpt_path", "dry_run", "config")
"""Keys of a run that the comparison sets itself."""
LENGTHS = ("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "data.max_tokens")
SAME_FOR_ALL = ("data", "run", "trainer.val_check_interval", "trainer.limit_val_batches", *LENGTHS)
"""Keys, and sections with all of theirs, that no arm may have of its own: its batches or scores would be others."""
OWN_ALL_THE_SAME = ("data.micro_batch_size", "data.validation_batch_size", "data.num_workers")
LEARNING_RATE = "model.optimizer.learning_rate"


@dataclass(frozen=True)
class SlurmConfig:
    """What each job of `--launcher slurm` asks for.

    Args:
        partition: Where it is queued; default the cluster's own.
        account: Who pays.
        qos: Quality of service.
        constraint: Features that its nodes must have.
        minutes: Time limit, two at least. A run that reaches it is saved and queued again.
        nodes: Number of nodes; trainer.num_nodes must be the same.
        gpus_per_node: GPUs, and processes, on each node; trainer.devices must be the same.
        cpus_per_task: Cores of each process.
        memory_gb: Memory on each node; default the cluster's own.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = 1440
    nodes: int = 1
    gpus_per_node: int = 1
    cpus_per_task: int = 8
    memory_gb: int | None = None

    def __post_init__(self) -> None:
        if self.minutes < 2:
            raise InputError(f"slurm.minutes: found {self.minutes}; give 2 or more, since time for a save is taken off")
        if (
            min(self.nodes, self.cpus_per_task, 1 if self.memory_gb is None else self.memory_gb) < 1
            or self.gpus_per_node < 0
        ):
            raise InputError("slurm: found a number of nodes, cores, GPUs or gigabytes below 1; only GPUs may be 0")


class RunKey(NamedTuple):
    """One run of a comparison."""

    arm: str
    seed: int
    learning_rate: float | None

    @property
    def version(self) -> str:
        """The name of its folder, below that of its arm."""
        suffix = "" if self.learning_rate is None else f"-lr-{self.learning_rate:g}"
        return f"seed-{self.seed}{suffix}"

    def __str__(self) -> str:
        return f"{self.arm} {self.version}"


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and what is held equal.

    Args:
        name: Names the comparison's folder, <run.root>/<name>.
        base: The config file that all arms share, or several that are merged in order.
        arms: For each arm by name the keys of a run that it has of its own, dotted or nested.
        baseline: The arm that the others are held against.
        seeds: Each arm is trained once for each. A seed is that of the initial weights and of the order of the data.
        equal: What all arms get the same of: `parameters` (and tokens), training `flops`, or training `time`. The
            baseline has the base's number of steps, and with `flops` and `time` the others have what matches it.
        tolerance: Largest relative difference from the baseline that is let pass.
        overrides: Keys that all arms change in the base.
        learning_rates: Peak learning rates, with each of which each arm is trained; default the base's own.
        calibration_steps: With `time`: optimizer steps of each arm that are timed first, twice.
        slurm: What `--launcher slurm` asks for.

    Raises:
        InputError: a list that is empty or names something twice, a baseline that is no arm, a key that no arm may set.
    """

    name: str
    base: list[str] | str
    arms: dict[str, dict[str, Any] | None]
    baseline: str
    seeds: list[int]
    equal: Literal["parameters", "flops", "time"] = "parameters"
    tolerance: float = 0.005
    overrides: dict[str, Any] = field(default_factory=dict)
    learning_rates: list[float] | None = None
    calibration_steps: int = 20
    slurm: SlurmConfig = SlurmConfig()

    def __post_init__(self) -> None:
        for name in (self.name, *self.arms):
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise InputError(f"name, arms: found '{name}', which names a folder; use letters, digits, '_' and '-'")
        if len(self.arms) < 2:
            raise InputError(f"arms: found {len(self.arms)}; name two or more")
        if self.baseline not in self.arms:
            raise InputError(f"baseline: no arm is called '{self.baseline}'; choose one of {', '.join(self.arms)}")
        self._check_numbers()
        _refuse("overrides", flat(self.overrides), OWNED)
        for name, own in self.arms.items():
            _refuse(f"arms.{name}", flat(own or {}), (*OWNED, *SAME_FOR_ALL), OWN_ALL_THE_SAME)
            if self.learning_rates is not None and LEARNING_RATE in flat(own or {}):
                raise InputError(f"arms.{name}: {LEARNING_RATE} is given by learning_rates; leave one of them out")

    @property
    def base_files(self) -> list[str]:
        """The base as a list."""
        return [self.base] if isinstance(self.base, str) else list(self.base)

    def runs(self) -> Iterator[RunKey]:
        """All runs; those of one seed follow each other, so that what is there can soon be compared."""
        for seed in self.seeds:
            for learning_rate in self.learning_rates or [None]:
                for arm in self.arms:
                    yield RunKey(arm, seed, learning_rate)

    def overlay(self, arm: str) -> dict[str, Any]:
        """The nested sections that are laid over the base for an arm."""
        return nested({**flat(self.overrides), **flat(self.arms[arm] or {})})

    def _check_numbers(self) -> None:
        for key, what in (("base", self.base_files), ("seeds", self.seeds), ("learning_rates", self.learning_rates)):
            if what is not None and not what:
                raise InputError(f"{key}: empty; give one or more")
            if what is not None and len(set(what)) < len(what):
                raise InputError(f"{key}: {what} names one twice; leave it out")
        if min(self.seeds) < 0 or min(self.learning_rates or [1]) <= 0:
            raise InputError("seeds, learning_rates: found a number below 0; seeds start at 0, rates above it")
        if not 0 <= self.tolerance < 1:
            raise InputError(f"tolerance: found {self.tolerance}; give a fraction, such as 0.005")
        if self.calibration_steps < 2:
            raise InputError(
                f"calibration_steps: found {self.calibration_steps}; the first is not timed, give 2 or more"
            )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; keys that are dotted stay. An empty section is a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
        found |= inner
    return found


def nested(dotted: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested sections.

    Raises:
        InputError: a key that is a value and a section at once.
    """
    sections: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, last = key.split(".")
        section = sections
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise InputError(f"arms, overrides: '{key}' is below '{parent}', which has a value; keep one of them")
        section[last] = value
    return sections


def _refuse(where: str, keys: dict[str, Any], owned: tuple[str, ...], let_pass: tuple[str, ...] = ()) -> None:
    for key in keys:
        if key not in let_pass and any(key == one or key.startswith(f"{one}.") for one in owned):
            advice = "seeds are given by `seeds`" if key in SEEDS else "it is the same for all arms or set by itself"
            where_to = "" if where == "overrides" or key in OWNED else "; put it in the base or in overrides"
            raise InputError(f"{where}: '{key}' may not be set here: {advice}{where_to}")
