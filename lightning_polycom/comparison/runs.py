"""A finished or unfinished run as the report sees it: facts, and every logged value over steps."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from lightning_polycom.comparison.analyses import Analysis, newest_analysis
from lightning_polycom.comparison.series import Series, read_series
from lightning_polycom.errors import InputError
from lightning_polycom.json_object import read_json_object

FINISHED, PENDING = "finished", "pending"


class Facts(NamedTuple):
    """What a run was, apart from what it logged; None is unknown."""

    data: str | None = None  # fingerprint of the training and validation text
    batches: tuple | None = None  # what decides the order of samples: seed of the order, tokens per step, length
    validation_tokens: int | None = None
    tokens_per_step: int | None = None
    num_parameters: int | None = None
    num_active_parameters: int | None = None
    flops_per_token: float | None = None
    device: str | None = None  # with the number of processes and threads: times compare only if it is the same
    git_commit: str | None = None
    token_stream: dict[str, str] = {}  # noqa: RUF012 - running hash of the trained tokens by step
    data_changes: int = 0


@dataclass(frozen=True, eq=False)
class Run:
    """One run of one arm.

    Args:
        arm: What it is compared as.
        seed: Seed of initial weights and batches; runs of one seed are paired.
        learning_rate: Peak learning rate, or None where it is unknown.
        path: Where it was read from, as the user names it; in a comparison from that folder's name on.
        status: `finished`, or why it is not.
        series: Every logged value by tag.
        activation: Name of the activation, or None.
        resumed: It was interrupted and went on.
        marks: Everything a reader must know before he trusts it, in plain words.
        analysis: Of its newest analysed checkpoint, or None.
    """

    arm: str
    seed: int
    learning_rate: float | None
    path: str
    status: str
    facts: Facts = field(default_factory=Facts)
    series: dict[str, Series] = field(default_factory=dict)
    activation: str | None = None
    resumed: bool = False
    marks: tuple[str, ...] = ()
    analysis: Analysis | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it may enter a mean: finished, and nothing makes it another experiment than its pair."""
        return self.status == FINISHED

    def marked(self, mark: str, status: str | None = None) -> "Run":
        """The run with one mark more, and another status if that takes it out of the means."""
        return replace(self, marks=(*self.marks, mark), status=status or self.status)

    def last(self, tag: str) -> float | None:
        """The last value of a tag; None where there is none or it is not finite."""
        series = self.series.get(tag)
        if series is None or not np.isfinite(series.values[-1]):
            return None
        return float(series.values[-1])

    def tokens_at(self, steps: np.ndarray) -> np.ndarray:
        """Training tokens after so many optimizer steps."""
        progress = self.series.get("progress/tokens")
        if progress is None:
            return np.asarray(steps, dtype=float) * (self.facts.tokens_per_step or 1)
        known = np.concatenate([[0], progress.steps]), np.concatenate([[0.0], progress.values])
        return np.interp(steps, *known)

    @property
    def tokens(self) -> float:
        """Training tokens at the last logged step."""
        steps = [series.steps[-1] for series in self.series.values()]
        return float(self.tokens_at(np.array([max(steps, default=0)]))[0])


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is that of one run."""
    return (folder / "run.json").is_file() or (folder / "metrics.jsonl").is_file()


def read_run(folder: Path) -> Run:
    """The run in a folder; its arm is the run's name without the seed.

    Raises:
        InputError: a file of it is missing or damaged, or it has no seed.
    """
    advice = "give the folder of a run, such as runs/NAME/version_0"
    record = read_json_object(folder / "run.json", "run: ", advice)
    config = _read_config(folder / "config.yaml")
    series, start = read_series(folder / "metrics.jsonl")
    seed = config.get("seed_everything")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed: {folder / 'config.yaml'} has seed_everything: {seed}; runs are paired by their seeds")
    if series and record.get("tokens_per_step") is None and "progress/tokens" not in series:
        raise InputError(f"run: {folder / 'run.json'} has no tokens_per_step; {advice}")
    name = folder.resolve().parent.name
    for separator in "-_.":
        for word in ("seed", "s", ""):
            name = name.removesuffix(f"{separator}{word}{seed}")
    return Run(
        arm=name,
        seed=seed,
        learning_rate=_dig(config, "model", "optimizer", "learning_rate"),
        path=str(folder),
        status=record.get("status") or "unknown",
        facts=_facts(record, config),
        series=series | _later_scores(folder, max((int(s.steps[-1]) for s in series.values()), default=0)),
        activation=record.get("activation"),
        resumed=_was_resumed(record, start),
        analysis=newest_analysis(folder / "probes"),
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"run: {path} cannot be read; keep the config.yaml that the run wrote") from error
    if not isinstance(config, dict):
        raise InputError(f"run: {path} holds no settings; keep the config.yaml that the run wrote")
    return config


def _facts(record: dict[str, Any], config: dict[str, Any]) -> Facts:
    names = ("tokens_per_step", "num_parameters", "num_active_parameters", "flops_per_token", "git_commit")
    machine = [record.get("device"), f"{record.get('world_size')} processes", f"{record.get('num_threads')} threads"]
    batches = (_dig(config, "data", "seed"), record.get("tokens_per_step"), _dig(config, "data", "sequence_length"))
    return Facts(
        **{name: record.get(name) for name in names},
        data=record.get("data_fingerprint"),
        batches=batches,
        validation_tokens=_dig(config, "data", "max_validation_tokens"),
        device=", ".join(map(str, [*machine, record.get("precision")])),
        token_stream=record.get("token_stream") or {},
        data_changes=len(record.get("data_changes") or []),
    )


def _dig(config: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _was_resumed(record: dict[str, Any], first_logged: float | None) -> bool:
    """run.json has the newest start; a value that was logged before it is from an earlier one."""
    from datetime import datetime

    try:
        started = datetime.strptime(record["started"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (KeyError, TypeError, ValueError):
        return False
    return first_logged is not None and first_logged < started - 1


def _later_scores(folder: Path, step: int) -> dict[str, Series]:
    """Scores of `polycom evaluate` on the last step's checkpoint, which are in no metrics.jsonl."""
    path = folder / "evals" / f"step-{step:08d}.evaluate.json"
    if not path.is_file():
        return {}
    from lightning_polycom.evaluation.scores import scalars

    results = read_json_object(path, "run: ", "score the checkpoint again with polycom evaluate")
    try:
        values = scalars(results)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"run: {path} is no result of lm-eval; score the checkpoint again") from error
    return {tag: Series(np.array([step]), np.array([value])) for tag, value in values.items()}
