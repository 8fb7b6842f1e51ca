"""When the parts of a training step begin and end, seen from inside Lightning's own loop."""

import time
from statistics import median
from typing import Any, NamedTuple

import lightning as L
import torch

Stamp = float | torch.cuda.Event
WARM_UP = {"cpu": 2, "cuda": 5}  # steps: the first one compiles and allocates
MAX_SECONDS = 60.0


class StepTimes(NamedTuple):
    """Medians over the measured optimizer steps, in seconds: a whole step, its parts, and how often it was measured.

    `forward` and `backward` are of all its micro-batches. `optimizer` is clipping, the step guard and AdamW.
    """

    whole: float
    forward: float
    backward: float
    optimizer: float
    steps: int

    @property
    def rest(self) -> float:
        """The loop, its hooks, and waiting for data."""
        return max(0.0, self.whole - self.forward - self.backward - self.optimizer)

    def scaled(self, measured: int, accumulation: int) -> "StepTimes":
        """The same step with `accumulation` micro-batches in place of the `measured` ones."""
        factor = accumulation / measured
        forward, backward, rest = (part * factor for part in (self.forward, self.backward, self.rest))
        return StepTimes(forward + backward + rest + self.optimizer, forward, backward, self.optimizer, self.steps)


class StepClock(L.Callback):
    """Stamps every part of every step, and ends the training after enough of them.

    On a GPU a stamp is an event in its stream, so that nothing waits for the device until all is done.

    Args:
        device: `cpu` or `cuda`.
        repetitions: Steps that count, after the warm-up; fewer, but one at least, if they take over a minute.
    """

    def __init__(self, device: str, repetitions: int):
        self.device, self.repetitions = device, repetitions
        self._ends: list[Stamp] = []  # of every step
        self._spans: list[dict[str, list[tuple[Stamp, Stamp]]]] = [_no_spans()]  # of every step and the one to come
        self._warm_at = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Forward begins."""
        self._begin = self._stamp()

    def on_before_backward(self, *_: Any) -> None:
        """Forward ends, backward begins."""
        self._end("forward")

    def on_after_backward(self, *_: Any) -> None:
        """Backward ends."""
        self._end("backward")

    def on_before_optimizer_step(self, *_: Any) -> None:
        """The optimizer's part begins, after the last micro-batch."""
        self._begin = self._stamp()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """A step ends with its last micro-batch."""
        if trainer.global_step == len(self._ends):
            return
        self._end("optimizer")
        self._ends.append(self._begin)
        self._spans.append(_no_spans())
        measured = len(self._ends) - WARM_UP[self.device]
        if measured == 0:
            self._warm_at = time.perf_counter()
        late = measured > 0 and time.perf_counter() - self._warm_at > MAX_SECONDS
        trainer.should_stop = late or measured >= self.repetitions

    def times(self) -> StepTimes:
        """The medians over the steps after the warm-up; waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        first = WARM_UP[self.device]
        steps = range(first, len(self._ends))
        whole = median(_seconds(self._ends[step - 1], self._ends[step]) for step in steps)
        parts = {
            name: median(sum(_seconds(*span) for span in self._spans[step][name]) for step in steps)
            for name in ("forward", "backward", "optimizer")
        }
        return StepTimes(whole, **parts, steps=len(steps))

    def _end(self, part: str) -> None:
        """Ends a part, and begins what follows it."""
        now = self._stamp()
        self._spans[-1][part].append((self._begin, now))
        self._begin = now

    def _stamp(self) -> Stamp:
        if self.device == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _no_spans() -> dict[str, list[tuple[Stamp, Stamp]]]:
    return {"forward": [], "backward": [], "optimizer": []}


def _seconds(begin: Stamp, end: Stamp) -> float:
    return end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000
