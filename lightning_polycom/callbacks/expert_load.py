"""Follows how the experts of a sparse decoder are used, and what each has learned."""

from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from lightning_polycom.analysis.expert_figure import draw_experts
from lightning_polycom.atomic import write_json
from lightning_polycom.model.mixture_of_experts.balance import max_load_over_mean
from lightning_polycom.training.scalars import EventFiles, log_scalars
from lightning_polycom.training.sharding import whole


class ExpertLoad(L.Callback):
    """Logs, of the step that has ended, each layer's load and router entropy; draws them after every validation.

    `moe/<layer>/max_load_over_mean` is 1 where all experts are equally busy. `moe/<layer>/dropped_fraction` counts the
    assignments that no expert took; there are none. `moe/<layer>/router_entropy` is the mean over tokens, in nats.
    The heat maps `moe/load` and, where experts have coefficients of their own, `moe/coefficient_<power>` have a row for
    each layer; their numbers are in the run's probes/experts-step-<n>.json. Nothing is done for a dense decoder.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Those of a resumed step are logged already."""
        self._logged_step = self._drawn_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Logs after every `log_every_n_steps` optimizer steps."""
        step = trainer.global_step
        if is_sparse(pl_module) and step % trainer.log_every_n_steps == 0 and step != self._logged_step:
            self._logged_step = step
            log_scalars(trainer, load_scalars(trainer, pl_module))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the step that has ended, if there is one."""
        self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the last step."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        step = trainer.global_step
        if not (trainer.training or trainer.validating) or not is_sparse(pl_module):
            return
        if pl_module.step_routing.tokens_per_expert is None or step == self._drawn_step:
            return
        self._drawn_step = step
        coefficients = expert_coefficients(pl_module)  # collective
        if not trainer.is_global_zero:
            return
        load = pl_module.step_routing.tokens_per_expert.float()
        load = load / load.mean(-1, keepdim=True)
        values = {"load": load, **coefficients}
        folder = Path(trainer.default_root_dir) / "probes"
        folder.mkdir(parents=True, exist_ok=True)
        numbers = {name: value.tolist() for name, value in values.items()}
        write_json(folder / f"experts-step-{step:08d}.json", {"step": step, **numbers})
        for logger in trainer.loggers:
            if isinstance(logger, EventFiles):
                for name, value in values.items():
                    logger.write_figure(f"moe/{name}", draw_experts(value, *_labels(name, step)), step)


def is_sparse(pl_module: L.LightningModule) -> bool:
    """Whether there are experts."""
    return pl_module.decoder.config.mixture_of_experts is not None


def load_scalars(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
    """Each layer's load, dropped assignments and router entropy in the last step. Collective."""
    routing, mixture = pl_module.step_routing, pl_module.decoder_config.mixture_of_experts
    num_tokens = trainer.datamodule.tokens_per_step
    assigned = routing.tokens_per_expert.sum(-1) / (num_tokens * mixture.experts_per_token)
    entropy = trainer.strategy.reduce(routing.entropy.clone(), reduce_op="sum") / num_tokens
    values = {
        "max_load_over_mean": max_load_over_mean(routing.tokens_per_expert),
        "dropped_fraction": 1 - assigned,
        "router_entropy": entropy,
    }
    return {f"moe/{layer}/{n}": value for n, v in values.items() for layer, value in enumerate(v.tolist())}


def expert_coefficients(pl_module: L.LightningModule) -> dict[str, Tensor]:
    """Effective coefficients by power, (layers, num_experts) each, where experts have their own. Collective."""
    if not pl_module.decoder.blocks[0].feed_forward.activation.per_expert:
        return {}
    activations = [whole(block.feed_forward.activation) for block in pl_module.decoder.blocks]
    if not hasattr(activations[0], "effective_coefficients"):
        return {}  # of a user's own, whose numbers have no common meaning
    stacked = torch.stack([activation.effective_coefficients().detach() for activation in activations], dim=1)
    return {f"coefficient_{power}": values for power, values in enumerate(stacked, start=1)}


def _labels(name: str, step: int) -> tuple[str, str, float | None]:
    """Title, colour bar's label and centre of a heat map."""
    if name == "load":
        return f"load of each expert, step {step:,}", "tokens over the layer's mean", 1.0
    return f"{name.replace('_', ' of power ')}, step {step:,}", "coefficient", None
