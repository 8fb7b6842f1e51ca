"""The table that a run ends with."""

from pathlib import Path

import lightning as L
from rich.console import Console
from rich.table import Table

from lightning_polycom.callbacks.downstream_evaluation import DownstreamEvaluation
from lightning_polycom.callbacks.throughput import Throughput

AVERAGE_OF = {False: "acc_norm or acc", True: "as chosen"}
"""What eval/average is made of, by whether evaluation.metrics is set."""


class RunSummary(L.Callback):
    """Prints losses per domain, task scores beside chance, speed, where the run lies and what to type next."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints on the first rank, from the last values that were logged."""
        if not trainer.is_global_zero:
            return
        console, metrics = Console(), {key: float(value) for key, value in trainer.callback_metrics.items()}
        console.print()
        for table in (domain_table(metrics), task_table(metrics, _average_of(trainer))):
            if table.row_count:
                console.print(table)
        folder = Path(trainer.default_root_dir)
        console.print(_cost_line(trainer, pl_module), highlight=False)
        for line in _next_lines(folder):
            console.print(line, highlight=False, soft_wrap=True)


def domain_table(metrics: dict[str, float]) -> Table:
    """One row per validation domain: loss, perplexity, bits per byte."""
    table = Table("domain", title="Held-out text", title_justify="left")
    for title in ("loss (nats/token)", "perplexity", "bits per byte"):
        table.add_column(title, justify="right")
    for tag in sorted(metrics):
        if tag.startswith("val/") and tag.endswith("/perplexity"):
            domain = tag.removesuffix("/perplexity").removeprefix("val/")
            figures = (metrics[f"val/{domain}/{name}"] for name in ("loss", "perplexity", "bits_per_byte"))
            table.add_row(domain, *(f"{figure:.3f}" for figure in figures))
    if "val/loss" in metrics:
        table.add_section()
        table.add_row("mean", f"{metrics['val/loss']:.3f}", "", "")
    return table


def task_table(metrics: dict[str, float], average_of: str = AVERAGE_OF[False]) -> Table:
    """One row per task metric: value, standard error, chance; `average_of` says what the average is made of.

    Of a rolling perplexity only bits per byte: the others are the same number in another form, and are logged.
    """
    table = Table(title="Downstream tasks (lm-eval)", title_justify="left")
    table.add_column("task", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for title in ("value", "stderr", "chance"):
        table.add_column(title, justify="right")
    for tag in sorted(metrics):
        parts = tag.split("/")
        if parts[0] != "eval" or parts[-1].endswith(("_stderr", "_perplexity")) or parts[-1] == "chance":
            continue
        task = parts[1] if len(parts) == 3 else "average"
        metric = parts[2] if len(parts) == 3 else average_of
        stderr = metrics.get(f"{tag}_stderr")
        chance = metrics.get(f"eval/{task}/chance") if metric.startswith("acc") else None
        table.add_row(task, metric, *("" if v is None else f"{v:.3f}" for v in (metrics[tag], stderr, chance)))
    return table


def _average_of(trainer: L.Trainer) -> str:
    chosen = any(isinstance(c, DownstreamEvaluation) and c.metrics for c in trainer.callbacks)
    return AVERAGE_OF[chosen]


def _cost_line(trainer: L.Trainer, pl_module: L.LightningModule) -> str:
    config = pl_module.decoder_config
    speed = next((c.tokens_per_second for c in trainer.callbacks if isinstance(c, Throughput)), 0.0)
    trained = trainer.datamodule.samples_trained * trainer.datamodule.sequence_length
    active = "" if config.mixture_of_experts is None else f" ({config.num_active_parameters:,} active)"
    return (
        f"{config.activation.name}: {config.num_parameters:,} parameters{active}, {trainer.global_step:,} steps, "
        f"{trained:,} tokens, {speed:,.0f} tokens/s"
    )


def _next_lines(folder: Path) -> list[str]:
    return [
        f"The run lies in {folder}",
        "",
        "Next:",
        "  watch it        tensorboard --logdir " + str(folder.parent.parent),
        f"  score it again  polycom evaluate {folder}",
        f'  let it write    polycom generate {folder} --prompt "def main():"',
    ]
