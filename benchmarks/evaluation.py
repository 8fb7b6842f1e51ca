"""Seconds that evaluation takes beside lm-eval's own `hf` backend, on the same weights, tokenizer and requests.

Run: python benchmarks/evaluation.py [--data ../shared/data] [--threads 1] [--rounds 3] [--tasks arc_easy nq_open]

The model is a 20M-parameter SwiGLU decoder (fp32) with a vocabulary of 8,192, and its copy as a LlamaForCausalLM. What
is timed is the answering of requests, tokenising included; lm-eval's own work before and after is the same for both
and is stated apart. The `hf` backend has the batch size that is fastest on the first 40 requests of each task. Both
sides take turns, and medians count. With one thread the clock is CPU seconds of the process, with more it is wall time.
Answers are compared one by one, and so are lm-eval's metrics.

Claims: arc_easy, hellaswag and 5-shot mmlu take together at most a third of the time, and no task takes longer.
"""

import argparse
import copy
import logging
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "evaluation"))

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from transformers_twin import hf_backend, swiglu_decoder

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.evaluation import DecoderLM, LoadedTasks, load_tasks, run_evaluation
from lightning_polycom.training.processor import processor_name

SUBJECTS = ("anatomy", "computer_security", "machine_learning", "marketing")
LIMITS = {"mmlu": 20, "wikitext": 3, "nq_open": 20, "sciq": 20, "boolq": 30}  # documents, of each subject for mmlu
LIMIT = 50
SUMMED, TARGET = ("arc_easy", "hellaswag", "mmlu"), 3.0
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
TRIAL = 40  # requests that the batch size is chosen on


class Noted(LM):
    """Takes lm-eval's requests down, or gives prepared answers to them."""

    def __init__(self, answers: list[Any] | None = None):
        super().__init__()
        self.kind, self.requests, self._answers = "", [], answers

    def _answer(self, kind: str, requests: list[Instance], default: Any) -> list[Any]:
        self.kind, self.requests = kind, requests
        return [default] * len(requests) if self._answers is None else self._answers

    def loglikelihood(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Continuations."""
        return self._answer("loglikelihood", requests, (0.0, False))

    def loglikelihood_rolling(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Whole texts."""
        return self._answer("loglikelihood_rolling", requests, 0.0)

    def generate_until(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Prompts."""
        return self._answer("generate_until", requests, "")


class Measured(NamedTuple):
    """A task's seconds on both sides, the batch size of the `hf` backend, and lm-eval's own seconds."""

    name: str
    requests: int
    batch_size: int
    theirs: float
    ours: float
    harness: float

    @property
    def speed(self) -> float:
        """How many times as fast this evaluation is."""
        return self.theirs / self.ours


class Bench:
    """Both sides, and the clock."""

    def __init__(self, data: Path, rounds: int, threads: int):
        tokenizer = Tokenizer.load(data / "tokenizers" / "bpe-8192.json")
        sizes = {"hidden_size": 384, "num_layers": 8, "num_heads": 6, "intermediate_size": 1536}
        self.decoder = swiglu_decoder(tokenizer.vocab_size, 2048, deviation=0.05, **sizes)
        self.ours = DecoderLM(self.decoder, tokenizer)
        with tempfile.TemporaryDirectory() as folder:
            self.theirs = hf_backend(self.decoder, tokenizer, Path(folder))
        self._rounds = rounds
        self._clock = time.process_time if threads == 1 else time.perf_counter

    def task(self, name: str, loaded: LoadedTasks) -> Measured:
        """Measures one task and compares the answers and metrics of both sides."""
        limit, noted = LIMITS.get(name, LIMIT), Noted()
        start = self._clock()
        run_evaluation(noted, loaded, limit=limit)
        harness = self._clock() - start
        kind, requests = noted.kind, noted.requests
        sizes = {size: self._seconds(self._their_answers(size), kind, requests[:TRIAL])[0] for size in BATCH_SIZES}
        batch_size = min(sizes, key=sizes.get)
        theirs, ours = [], []
        for _ in range(self._rounds):
            seconds, exact = self._seconds(self._their_answers(batch_size), kind, requests)
            theirs.append(seconds)
            seconds, found = self._seconds(self.ours, kind, requests)
            ours.append(seconds)
        compare(name, found, exact)
        metrics = [run_evaluation(Noted(answers), loaded, limit=limit)["results"] for answers in (found, exact)]
        compare_metrics(name, *metrics)
        return Measured(name, len(requests), batch_size, median(theirs), median(ours), harness)

    def _their_answers(self, batch_size: int) -> Any:
        self.theirs.batch_size_per_gpu = batch_size
        return self.theirs

    def _seconds(self, lm: Any, kind: str, requests: list[Instance]) -> tuple[float, list[Any]]:
        fresh = copy.deepcopy(requests)
        start = self._clock()
        answers = getattr(lm, kind)(fresh, disable_tqdm=True)
        return self._clock() - start, answers


def compare(name: str, found: list[Any], exact: list[Any]) -> None:
    """Stops unless every answer is the same: texts, greedy flags, and log-likelihoods as far as fp32 goes."""
    for mine, other in zip(found, exact, strict=True):
        if isinstance(other, tuple) and mine[1] != other[1]:
            raise SystemExit(f"{name}: {mine} is not {other}")
        mine, other = (value[0] if isinstance(value, tuple) else value for value in (mine, other))
        same = mine == other if isinstance(other, str) else abs(mine - other) <= 1e-4 + 1e-6 * abs(other)
        if not same:
            raise SystemExit(f"{name}: {mine!r} is not {other!r}")


def compare_metrics(name: str, found: dict[str, Any], exact: dict[str, Any]) -> None:
    """Stops unless lm-eval draws the same metrics from the answers: accuracies equal, perplexities to 6 digits."""
    for task, metrics in exact.items():
        for metric, value in metrics.items():
            mine = found[task][metric]
            close = isinstance(value, float) and abs(mine - value) <= 1e-6 * abs(value)
            if not (mine == value or (close and "acc" not in metric)):
                raise SystemExit(f"{name}: {task} {metric} is {mine}, not {value}")


def tasks(data: Path) -> dict[str, LoadedTasks]:
    """Every task of the data folder by itself; some subjects of mmlu, with five examples, as one."""
    include = [str(data / "lm_eval" / "tasks_offline")]
    loaded = load_tasks(["polycom_six_offline", "polycom_more_offline"], include)
    subjects = load_tasks(["mmlu_offline"], include, num_fewshot=5).tasks
    chosen = [subjects[f"mmlu_{subject}"] for subject in SUBJECTS]
    result = {name: LoadedTasks({name: [task]}) for name, task in loaded.tasks.items()}
    result["mmlu"] = LoadedTasks({"mmlu": chosen})
    return {name: result[name] for name in (*SUMMED, *(name for name in result if name not in SUMMED))}


def line(name: str, theirs: float, ours: float, target: float, rest: str = "") -> str:
    """A row of the table, with its verdict."""
    verdict = "pass" if theirs / ours >= target else "MISS"
    return f"  {name:<26}{theirs:>9.2f}{ours:>9.2f}{theirs / ours:>8.2f}   {verdict}, at least {target:.1f}{rest}"


def main() -> None:
    """Parses the options, measures task after task, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="questions and tokenizers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", help="default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    bench = Bench(arguments.data.resolve(), arguments.rounds, arguments.threads)
    clock = "CPU seconds" if arguments.threads == 1 else "wall time"
    size = bench.decoder.config.num_parameters
    print(f"{processor_name()}, torch {torch.__version__}, {arguments.threads} threads, {clock}, {size:,} parameters")
    print(f"\n  {'task (requests)':<26}{'hf':>9}{'ours':>9}{'speed':>8}")
    found: dict[str, Measured] = {}
    for name, loaded in tasks(arguments.data.resolve()).items():
        if arguments.tasks is None or name in arguments.tasks:
            found[name] = m = bench.task(name, loaded)
            rest = f"; hf batch size {m.batch_size}; lm-eval itself {m.harness:.1f}"
            print(line(f"{name} ({m.requests:,})", m.theirs, m.ours, 1.0, rest), flush=True)
    if found.keys() >= set(SUMMED):
        sums = [sum(getattr(found[name], side) for name in SUMMED) for side in ("theirs", "ours")]
        print(line("arc_easy+hellaswag+mmlu", *sums, TARGET))


if __name__ == "__main__":
    main()
