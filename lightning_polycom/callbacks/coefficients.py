"""Follows the learned coefficients of every layer."""

import lightning as L

from lightning_polycom.training.scalars import log_scalars
from lightning_polycom.training.sharding import whole


class Coefficients(L.Callback):
    """Logs `activation/<layer>/coefficient_<power>`, bias, slope and the like at the trainer's logging interval.

    Nothing is logged for activations without coefficients.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the values that training starts from; those of a resumed step are logged already."""
        self._logged_step = trainer.global_step
        if trainer.global_step == 0:
            self._log(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Logs after every `log_every_n_steps` optimizer steps."""
        if trainer.global_step % trainer.log_every_n_steps == 0 and trainer.global_step != self._logged_step:
            self._log(trainer, pl_module)

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._logged_step = trainer.global_step
        if scalars := coefficient_scalars(pl_module):
            log_scalars(trainer, scalars)


def coefficient_scalars(pl_module: L.LightningModule) -> dict[str, float]:
    """Every layer's current coefficients by tag; empty for activations without them. Collective."""
    scalars = {}
    for layer, block in enumerate(pl_module.decoder.blocks):
        for name, value in whole(block.feed_forward.activation).learned_values().items():
            scalars[f"activation/{layer}/{name}"] = value
    return scalars
