"""Run folders with known truth: what a run writes, with losses from a formula and seeded noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

STEPS, TOKENS_PER_STEP, FLOPS_PER_TOKEN = 100, 1000, 6000.0
STARTED = 1_790_000_000


def loss_at(step: int, final: float) -> float:
    """A falling loss that ends at `final` after STEPS."""
    return final + 2.0 * ((1 + step) ** -0.5 - (1 + STEPS) ** -0.5)


def write_run(
    folder: Path,
    arm: str,
    seed: int,
    final: float,
    *,
    speed: float = 50_000.0,
    status: str = "finished",
    steps: int = STEPS,
    layers: int = 3,
    learning_rate: float = 0.003,
    analysed: bool = False,
    tasks: bool = False,
    record: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """A run that ends at validation loss `final` in domain a and 0.5 more in domain b."""
    folder.mkdir(parents=True)
    facts = {
        "status": status,
        "started": f"{np.datetime64(STARTED, 's')}+0000",
        "git_commit": "0123456789abcdef",
        "device": "a machine",
        "world_size": 1,
        "num_threads": 1,
        "precision": "32-true",
        "max_steps": STEPS,
        "tokens_per_step": TOKENS_PER_STEP,
        "data_fingerprint": "f" * 64,
        "data_changes": [],
        "activation": arm,
        "num_parameters": 500_000,
        "num_active_parameters": 500_000,
        "flops_per_token": FLOPS_PER_TOKEN,
    }
    (folder / "run.json").write_text(json.dumps(facts | (record or {})))
    settings = {
        "seed_everything": seed,
        "model": {"optimizer": {"learning_rate": learning_rate}},
        "data": {"seed": seed, "sequence_length": 100, "max_validation_tokens": 1024},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | (config or {})))
    lines = [json.dumps(row) for row in _rows(arm, seed, final, speed, steps, layers, tasks)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if analysed:
        (folder / "probes").mkdir()
        path = folder / "probes" / f"analysis-step-{steps:08d}.json"
        path.write_text(json.dumps(_analysis(seed, steps, layers)))
    return folder


def _rows(arm: str, seed: int, final: float, speed: float, steps: int, layers: int, tasks: bool) -> list[dict]:
    rows, draw = [], np.random.default_rng(seed)
    for step in range(0, steps + 1, 5):
        now = {"step": step, "time": STARTED + 1 + step}
        if arm.startswith("poly"):
            places = [(layer, power) for layer in range(layers) for power in (1, 2)]
            rows.append(now | {f"activation/{n}/coefficient_{p}": 1 / 3 + p * n * step / 1000 for n, p in places})
        if step:
            rows.append(now | {"train/loss": loss_at(step, final) + draw.normal(0, 0.02)})
            tokens = step * TOKENS_PER_STEP
            progress = {"progress/tokens": tokens, "progress/flops": tokens * FLOPS_PER_TOKEN}
            rows.append(now | progress | {"throughput/tokens_per_second": speed, "memory/peak_gib": 0.5 + step / 1000})
        if step and step % 10 == 0:
            losses = {"a": loss_at(step, final), "b": loss_at(step, final) + 0.5}
            domains = {f"val/{name}/loss": loss for name, loss in losses.items()}
            bits = {f"val/{name}/bits_per_byte": loss / 2 for name, loss in losses.items()}
            rows.append(now | domains | bits | {"val/loss": sum(losses.values()) / 2})
    if tasks:
        score = {"eval/quiz/acc": 0.3 + seed / 100, "eval/quiz/acc_stderr": 0.03, "eval/quiz/chance": 0.25}
        rows.append({"step": steps, "time": STARTED + 1 + steps, **score, "eval/average": 0.3 + seed / 100})
    return rows


def _analysis(seed: int, step: int, layers: int) -> dict[str, Any]:
    draw, statistics = np.random.default_rng(seed), []
    for layer in range(layers):
        quantiles = {"0.01": -2.0, "0.5": 0.0, "0.99": 2.0 + layer}
        place = {"zero_fraction": 0.1 * layer, "kurtosis": 3.0 + layer, "quantiles": quantiles}
        statistics.append({"layer": layer, "input": place | {"overflow_headroom_bits": {"float16": 9.0 - layer}}})
    similarity = [[1 - 0.1 * abs(a - b) for a in range(layers)] for b in range(layers)]
    ranks = {name: (20 + 3 * np.arange(layers) + draw.normal(size=layers)).tolist() for name in ("up", "down")}
    return {
        "step": step, "effective_rank": ranks, "layer_similarity": similarity, "activation_statistics": statistics,
    }  # fmt: skip


def write_comparison(folder: Path, finals: dict[str, list[float]], baseline: str, **settings: Any) -> Path:
    """A comparison's folder: for each arm one run per final loss, of seeds 1, 2, ...; `settings` are `write_run`'s."""
    entries = []
    for arm, losses in finals.items():
        for seed, final in enumerate(losses, 1):
            run = f"{arm}/seed_{seed}"
            write_run(folder / run, arm, seed, final, **settings)
            entries.append({"name": arm, "seed": seed, "learning_rate": None, "run": run, "status": "finished"})
    content = {"name": folder.name, "baseline": baseline, "equal": "parameters", "arms": entries}
    (folder / "comparison.json").write_text(json.dumps(content))
    return folder
