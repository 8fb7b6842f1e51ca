"""What `polycom bench` measures of a run, and what `polycom bench --tune` tries: the options and their checks."""

from dataclasses import dataclass, fields
from pathlib import Path

from lightning_polycom.errors import InputError

PARTS = {
    "ceilings": "what the machine can do at best",
    "activation": "the activation at the run's size",
    "step": "a training step and its parts",
    "data": "the data alone",
    "evaluation": "scoring questions",
}
REPETITIONS = {"cpu": 5, "cuda": 25}
PRECISIONS = ("32-true", "bf16-mixed")
DEFAULT_CONFIG = "configs/quickstart.yaml"


@dataclass(frozen=True)
class RunBenchmarkOptions:
    """What is measured; None takes everything, or the device's default.

    Args:
        tune: Try settings of the step instead of measuring the run's own.
        parts: Names of PARTS.
        repetitions: Runs that count of each thing.
        output: A JSON file for every number.
        micro_batch_sizes: To try, each a divisor of the global batch on one device.
        precisions: To try, of PRECISIONS.
        compiled: Of model.compile, to try.

    Raises:
        InputError: something unknown, a number below 1, a folder as output, or an option of the other kind.
    """

    tune: bool = False
    parts: list[str] | None = None
    repetitions: int | None = None
    output: str | None = None
    micro_batch_sizes: list[int] | None = None
    precisions: list[str] | None = None
    compiled: list[str] | None = None

    def __post_init__(self) -> None:
        for key, known in (("parts", PARTS), ("precisions", PRECISIONS), ("compiled", ("true", "false"))):
            for value in getattr(self, key) or []:
                if value not in known:
                    raise InputError(f"{key}: found '{value}'; give {', '.join(known)}")
        for value in (self.repetitions, *(self.micro_batch_sizes or [])):
            if value is not None and value < 1:
                name = "repetitions" if value == self.repetitions else "micro_batch_sizes"
                raise InputError(f"{name}: found {value}; it must be at least 1")
        if self.output is not None and Path(self.output).is_dir():
            raise InputError(f"output: {self.output} is a folder; name a file, such as {self.output}/bench.json")
        other = ("parts",) if self.tune else ("micro_batch_sizes", "precisions", "compiled")
        for field in fields(self):
            if field.name in other and getattr(self, field.name) is not None:
                with_tune = "does not go with" if self.tune else "is for"
                raise InputError(f"{field.name}: {with_tune} --tune; leave it out")

    @property
    def chosen(self) -> list[str]:
        """The parts in their order."""
        return [part for part in PARTS if part in (self.parts or PARTS)]
