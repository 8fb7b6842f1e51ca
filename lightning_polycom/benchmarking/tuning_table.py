"""The lines that `polycom bench --tune` prints."""

import shlex

from lightning_polycom.benchmarking.candidates import Trial
from lightning_polycom.benchmarking.run_table import percent

NAMES = f"  {'precision':<12}{'compiled':<10}{'micro-batch':>11}"
HEADING = f"{NAMES}{'tokens/s':>14}{'peak memory':>14}{'of the peak':>13}"


def row(trial: Trial, peaks: dict[str, float]) -> str:
    """A candidate's speed, memory and share of the matrix peak of its precision; or why it was left out."""
    candidate = trial.candidate
    names = f"  {candidate.precision:<12}{'yes' if candidate.compiled else 'no':<10}{candidate.micro_batch_size:>11}"
    if trial.left_out is not None:
        return f"{names}   left out: {trial.left_out}"
    memory = f"{trial.peak_memory / 2**30:,.2f} GiB"
    return f"{names}{trial.tokens_per_second:>14,.0f}{memory:>14}{percent(share(trial, peaks)):>13}"


def share(trial: Trial, peaks: dict[str, float]) -> float | None:
    """Of the measured peak of the candidate's kind of product, PaLM's FLOPs counted."""
    if trial.flops_per_second is None:
        return None
    return trial.flops_per_second / peaks[trial.candidate.precision]


def best_lines(best: Trial, own: Trial | None) -> list[str]:
    """The fastest candidate as options of `polycom fit`, and how it stands to the run as it is written."""
    gain = ""
    if own is not None and own.tokens_per_second is not None:
        times = best.tokens_per_second / own.tokens_per_second
        gain = ", which the run has already" if own is best else f", {times:.2f} times the run as it is"
    return ["", f"best: {best.tokens_per_second:,.0f} tokens/s{gain}", f"  {shlex.join(best.candidate.options)}"]
