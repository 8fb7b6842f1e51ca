"""The charts of TensorBoard's Custom Scalars page."""

import lightning as L

from lightning_polycom.callbacks.coefficients import coefficient_scalars
from lightning_polycom.callbacks.expert_load import is_sparse
from lightning_polycom.training.scalars import EventFiles


class TensorBoardLayout(L.Callback):
    """Asks TensorBoard for one page with what a run is watched for: losses, coefficients, experts, tasks, speed.

    Every chart holds all domains, layers or tasks of its kind, chosen by a regular expression over the tags.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the layout, once."""
        for logger in trainer.loggers:
            if isinstance(logger, EventFiles):
                logger.write_layout(layout(pl_module))


def layout(pl_module: L.LightningModule) -> dict[str, dict[str, list]]:
    """Sections of charts; no section of coefficients for activations that have none."""
    kinds = sorted({tag.rsplit("/", 1)[1] for tag in coefficient_scalars(pl_module)})
    sections = {
        "loss": {
            "training (nats per token)": [r"train/loss"],
            "held out, by domain (nats per token)": [r"val/.*/loss"],
            "held out, by domain (bits per byte)": [r"val/.*/bits_per_byte"],
        },
        "learned coefficients, all layers": {kind: [rf"activation/\d+/{kind}"] for kind in kinds},
        "experts, all layers": {
            "busiest over mean": [r"moe/\d+/max_load_over_mean"],
            "router entropy (nats)": [r"moe/\d+/router_entropy"],
            "load-balance loss": [r"train/load_balance_loss"],
        }
        if is_sparse(pl_module)
        else {},
        "downstream": {"accuracy": [r"eval/.*/acc(_norm)?$"], "bits per byte": [r"eval/.*/bits_per_byte"]},
        "speed": {"tokens per second": [r"throughput/tokens_per_second"], "gradient norm": [r"optim/grad_norm"]},
    }
    return {
        section: {title: ["Multiline", tags] for title, tags in charts.items()}
        for section, charts in sections.items()
        if charts
    }
