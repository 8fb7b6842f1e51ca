"""Which optimizer steps are not applied: decided on the device, without waiting for it."""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed
from torch import Tensor

from lightning_polycom.errors import InputError

REASONS = (
    "the loss is not finite",
    "the gradient norm is not finite",
    "the loss is a spike",
    "the gradient norm is a spike",
)
MAX_VERDICTS = 1000  # held on the device until they are read


@dataclass(frozen=True)
class SkipStepsConfig:
    """Steps whose loss or gradient norm is not finite are never applied; with `sigma`, neither are spikes.

    Args:
        sigma: Standard deviations above the mean, of the last `window` applied steps, from which on a loss or a
            gradient norm is a spike (6 is usual). None: finite steps are all applied.
        window: Applied steps to look back on; nothing is a spike before half of them are there.
        max_in_a_row: Skipped steps in a row after which the run stops.

    Raises:
        InputError: a value out of range.
    """

    sigma: float | None = None
    window: int = 128
    max_in_a_row: int = 10

    def __post_init__(self) -> None:
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise InputError(f"skip_steps.sigma: found {self.sigma}; give a number above 0, or null for no spikes")
        if self.window < 4:
            raise InputError(f"skip_steps.window: found {self.window}; it must be at least 4")
        if self.max_in_a_row < 1:
            raise InputError(f"skip_steps.max_in_a_row: found {self.max_in_a_row}; it must be at least 1")


class SkippedStep(NamedTuple):
    """A step that was not applied: its number, what it would have been, and why."""

    step: int
    loss: float
    gradient_norm: float
    reason: str

    def __str__(self) -> str:
        return f"step {self.step}: loss {self.loss:.4g}, gradient norm {self.gradient_norm:.4g}, {self.reason}"


class Skipped(NamedTuple):
    """Skipped steps of the whole run, those up to now without an applied one between, and the ones not yet read."""

    total: int
    in_a_row: int
    new: list[SkippedStep]


class StepGuard:
    """Judges every optimizer step by its loss and gradient norm, as OLMo's skip-step optimizers do.

    All that is remembered lies on the device: the window of applied steps, two counters, and the verdicts until they
    are read. Equal values on all ranks give equal verdicts.
    """

    def __init__(self, config: SkipStepsConfig):
        self.config = config
        self._total, self._in_a_row = torch.zeros(2, dtype=torch.int64).unbind()  # skipped
        # Loss and norm of the last applied steps, oldest first; NaN where there were none.
        self._window = None if config.sigma is None else torch.full((config.window, 2), math.nan)
        self._verdicts: deque[tuple[int, Tensor]] = deque(maxlen=MAX_VERDICTS)

    def judge(self, loss: Tensor, gradient_norm: Tensor, step: int) -> Tensor:
        """1.0 if optimizer step `step` must not be applied, else 0.0: an fp32 scalar, as fused optimizers read it.

        `loss` and `gradient_norm` are scalars of the whole step, the same on all ranks.
        """
        values = torch.stack([loss, gradient_norm]).detach().float()
        # Few operations: in every step, on a small model each of them can be seen.
        reasons = (values - values) != 0  # of what is not finite this is not a number
        if self._window is not None:
            reasons = torch.cat([reasons, self._are_spikes(values)])
        is_skipped = reasons.any()
        self._total = self._total.to(values.device) + is_skipped
        self._in_a_row = (self._in_a_row.to(values.device) + 1) * is_skipped
        if self._window is not None:
            longer = torch.cat([self._window[1:], values[None]])
            self._window = torch.where(is_skipped, self._window, longer)
        self._verdicts.append((step, torch.cat([values, reasons.float()])))
        return is_skipped.float()

    def read(self) -> Skipped:
        """What has been decided; waits for the device."""
        new = []
        if self._verdicts:
            steps, verdicts = zip(*self._verdicts, strict=True)
            self._verdicts.clear()
            for step, (loss, norm, *reasons) in zip(steps, torch.stack(verdicts).tolist(), strict=True):
                # A value that is not finite is no spike too.
                why = [text for text, holds in zip(REASONS, reasons, strict=False) if holds]
                if why:
                    new.append(SkippedStep(step, loss, norm, why[0]))
        total, in_a_row = torch.stack([self._total, self._in_a_row]).tolist()
        return Skipped(total, in_a_row, new)

    def state_dict(self) -> dict[str, Tensor]:
        """Counters and window, on the CPU; the verdicts are for the terminal only."""
        state = {"counters": torch.stack([self._total, self._in_a_row]).cpu()}
        return state if self._window is None else {**state, "window": self._window.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from `state`: empty if it is of before steps were judged; of another window the newest steps."""
        if "counters" in state:
            self._total, self._in_a_row = state["counters"].unbind()
        if self._window is not None and "window" in state:
            self._window = torch.full((self.config.window, 2), math.nan)
            newest = state["window"][-self.config.window :]
            self._window[-len(newest) :] = newest

    def _are_spikes(self, values: Tensor) -> Tensor:
        """(2,) bool: which of loss and norm lie above mean + sigma * standard deviation of the window."""
        self._window = self._window.to(values.device)
        count = (~torch.isnan(self._window[:, 0])).sum()
        mean = self._window.nansum(0) / count
        variance = (self._window - mean).square().nansum(0) / (count - 1)
        return (values > mean + self.config.sigma * variance.sqrt()) & (count >= self.config.window // 2)


def over_ranks(sums: Tensor, gradient_norm: Tensor, world_size: int) -> tuple[Tensor, Tensor]:
    """The sums of all ranks' `sums` (n,), and the mean of their norms; a GPU's host does not wait for it.

    The ranks' norms are equal as long as no device errs; one that is not finite makes the mean so, on every rank.
    Collective, one exchange; nothing on a single device.
    """
    if world_size == 1:
        return sums, gradient_norm
    reduced = torch.cat([sums, gradient_norm[None]])
    torch.distributed.all_reduce(reduced)
    return reduced[:-1], reduced[-1] / world_size


def stop_message(config: SkipStepsConfig, skipped: Skipped, step: int) -> str:
    """The line with which a run ends that has skipped too many steps in a row."""
    last = f" ({skipped.new[-1]})" if skipped.new else ""
    return (
        f"model.skip_steps: stopped at step {step}, the last {skipped.in_a_row} steps were all skipped{last} and "
        f"max_in_a_row is {config.max_in_a_row}; lower model.optimizer.learning_rate, or resume with --ckpt_path from "
        f"a checkpoint well before step {step - skipped.in_a_row + 1}"
    )
