"""What a run's folder says of one checkpoint, for the model card and the export's record."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_polycom.training.run_folder import read_record

# Not the command line, the data's path or the machine: an exported folder may be published.
PUBLIC = ("precision", "world_size", "git_commit", "versions")


@dataclass(frozen=True)
class RunFacts:
    """Facts of a checkpoint; what the run did not record is None or empty.

    Attributes:
        step: Optimizer steps.
        tokens: Tokens trained on.
        data_fingerprint: The prepared data's fingerprint.
        mixture: The weights of the domains that applied last.
        metrics: The newest `val/` and `eval/` values up to this step, by tag.
        metric_steps: The step of each of them.
        record: Entries of run.json that may be published.
    """

    step: int
    tokens: int | None
    data_fingerprint: str | None
    mixture: dict[str, float]
    metrics: dict[str, float]
    metric_steps: dict[str, int]
    record: dict[str, Any]


def run_facts(folder: Path, checkpoint_file: Path, checkpoint: dict[str, Any]) -> RunFacts:
    """The facts of a checkpoint in the run's folder `folder`."""
    record, data, step = read_record(folder), checkpoint.get("TokenDataModule") or {}, checkpoint.get("global_step", 0)
    logged = _logged(folder / "metrics.jsonl", step) | _scored(folder, checkpoint_file, step)
    # An imported checkpoint has no data of its own; its record may tell of the run that it comes from.
    trained = data["samples"] * data["sequence_length"] if {"samples", "sequence_length"} <= data.keys() else None
    mixture = data.get("mixture") or []
    return RunFacts(
        step=step,
        tokens=trained,
        data_fingerprint=data.get("fingerprint"),
        mixture=dict(mixture[-1][1]) if mixture else {},
        metrics={tag: value for tag, (_, value) in logged.items()},
        metric_steps={tag: at for tag, (at, _) in logged.items()},
        record={key: record[key] for key in PUBLIC if key in record},
    )


def _logged(path: Path, step: int) -> dict[str, tuple[int, float]]:
    """(step, value) of the newest `val/` and `eval/` values in metrics.jsonl up to `step`, by tag."""
    found: dict[str, tuple[int, float]] = {}
    if not path.is_file():
        return found
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # the last line of a run that was killed
            continue
        at = line.get("step", step + 1)
        if at <= step:
            found |= {
                tag: (at, value)
                for tag, value in line.items()
                if tag.startswith(("val/", "eval/")) and isinstance(value, int | float)
            }
    return found


def _scored(folder: Path, checkpoint_file: Path, step: int) -> dict[str, tuple[int, float]]:
    """What `polycom evaluate` wrote for this checkpoint."""
    path = folder / "evals" / f"{checkpoint_file.stem}.evaluate.json"
    if not path.is_file():
        return {}
    from lightning_polycom.evaluation import scalars

    return {tag: (step, value) for tag, value in scalars(json.loads(path.read_text(encoding="utf-8"))).items()}
