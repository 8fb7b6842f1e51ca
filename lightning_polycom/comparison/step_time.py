"""How long a run will take: from a few steps of its decoder that are cheap enough, or from runs that are finished."""

import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch

from lightning_polycom.comparison.plan import ArmPlan
from lightning_polycom.model import Decoder
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer

CHEAP = 1e10  # FLOPs, about half a second of one core
TOKENS_PER_SECOND = "throughput/tokens_per_second"


class Estimate(NamedTuple):
    """Seconds of training of one run, and where the figure comes from."""

    seconds: float
    source: str


def estimate(
    arm: ArmPlan, micro_batch_size: int, seconds_per_step: dict[str, float], finished: dict[str, list[Path]]
) -> Estimate | None:
    """The time of a run of an arm, without validation and evaluation; None where it cannot be known.

    Args:
        arm: The arm.
        micro_batch_size: Sequences of a forward pass.
        seconds_per_step: Calibrated times by arm, if there are any.
        finished: Folders of finished runs by arm.
    """
    if arm.name in seconds_per_step:
        return Estimate(seconds_per_step[arm.name] * arm.steps, "the timed steps")
    speeds = [median_speed(folder) for folder in finished.get(arm.name, [])]
    if speeds:
        return Estimate(arm.tokens / statistics.median(speeds), "its finished runs")
    trainer = arm.settings["trainer"]
    if trainer["accelerator"] != "cpu" or trainer["devices"] not in ("auto", 1) or trainer["num_nodes"] != 1:
        return None  # this process may not have what the run will have
    sequences = min(micro_batch_size, int(CHEAP / (arm.flops_per_token * arm.sequence_length)))
    if sequences < 1 or arm.settings["model"]["compile"]:
        return None
    return Estimate(_measured(arm, sequences) * arm.tokens, "a measured step")


def median_speed(folder: Path) -> float:
    """Tokens per second of a run, the median over what it has logged; that of its last start if it was resumed."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    values = [json.loads(line).get(TOKENS_PER_SECOND) for line in lines]
    return statistics.median(value for value in values if value)


def _measured(arm: ArmPlan, sequences: int) -> float:
    """Seconds per token of the faster of two optimizer steps on random tokens, on the CPU, in fp32."""
    decoder = Decoder(arm.decoder)
    initialize(decoder, 0)
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.0), decoder)
    ids = torch.randint(arm.decoder.vocab_size, (sequences, arm.sequence_length), generator=torch.Generator())
    times = []
    for _ in range(3):
        started = time.perf_counter()
        decoder(ids, None, read=read_loss(ids, 0.0)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return min(times[1:]) / ids.numel()
