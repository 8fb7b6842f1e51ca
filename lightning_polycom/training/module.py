"""The LightningModule: one decoder, its loss, its optimizer."""

import math
from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.tensor import DTensor

from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize, restart_modules
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.model.loss import LossSums
from lightning_polycom.model.mixture_of_experts import Routing
from lightning_polycom.training.activation_checkpointing import (
    ActivationCheckpointing,
    checkpoint_activations,
    require_known,
)
from lightning_polycom.training.balancing import BalancingConfig, StepRouting
from lightning_polycom.training.compilation import compile_blocks, require_compiler, uncompiled
from lightning_polycom.training.domain_loss import DomainLoss, loss_scalars
from lightning_polycom.training.fit_to_data import require_vocabulary, require_window
from lightning_polycom.training.fsdp_strategy import FSDP2Strategy
from lightning_polycom.training.initial_weights import find_initial_weights, load_initial_weights
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer
from lightning_polycom.training.same_decoder import differences
from lightning_polycom.training.scalars import log_scalars
from lightning_polycom.training.schedules import ScheduleConfig, build_schedule
from lightning_polycom.training.sharding import reshard, shard
from lightning_polycom.training.step_guard import SkipStepsConfig, StepGuard, over_ranks

# fp16 would need its gradients unscaled before they are clipped.
PRECISIONS = ("32-true", "bf16-mixed")


class LanguageModel(L.LightningModule):
    """Trains a decoder on next-token prediction.

    Args:
        decoder: The decoder's shape.
        optimizer: AdamW's settings.
        schedule: The learning rate over the run.
        z_loss_weight: Weight of mean log(Z)^2 added to the loss; 0 leaves it out.
        seed: Seed of the initial weights, which are a function of it and of each parameter's name.
        compile: Whether training runs compiled blocks (torch.compile). The first step takes some seconds longer;
            validation and evaluation stay eager.
        activation_checkpointing: Intermediate results that backward computes again instead of keeping: `none`, those
            of every block (`full`), of every n-th block (a number), or all but matrix products and attention
            (`selective`). Less memory, more time, the same gradients.
        balancing: What keeps the experts of a sparse decoder equally busy.
        skip_steps: Which optimizer steps are not applied, and how many of them stop the run.
        initial_weights: A checkpoint, a run's folder or a Hugging Face folder, with whose weights training begins, at
            step 0; default drawn from the seed. A resumed run does not read it again.
    """

    def __init__(
        self,
        decoder: DecoderConfig,
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = ScheduleConfig(),
        z_loss_weight: float = 0.0,
        seed: int = 1234,
        compile: bool = True,
        activation_checkpointing: ActivationCheckpointing = "none",
        balancing: BalancingConfig = BalancingConfig(),
        skip_steps: SkipStepsConfig = SkipStepsConfig(),
        initial_weights: str | None = None,
    ):
        super().__init__()
        require_known(activation_checkpointing)
        # Plain types, so that a checkpoint loads with weights_only=True.
        self.save_hyperparameters(
            {
                "decoder": asdict(decoder),
                "optimizer": asdict(optimizer),
                "schedule": asdict(schedule),
                "z_loss_weight": z_loss_weight,
                "seed": seed,
                "compile": compile,
                "activation_checkpointing": activation_checkpointing,
                "balancing": asdict(balancing),
                "skip_steps": asdict(skip_steps),
                "initial_weights": initial_weights,
            }
        )
        self.decoder_config, self.optimizer_config, self.schedule_config = decoder, optimizer, schedule
        self.z_loss_weight, self.seed, self.balancing_config = z_loss_weight, seed, balancing
        self.compiled = compile  # `compile` is a method of every module
        self.activation_checkpointing, self.initial_weights = activation_checkpointing, initial_weights
        self.step_guard = StepGuard(skip_steps)
        self.decoder: Decoder | None = None
        self._step_sums: Tensor | None = None
        self._step_targets: Tensor | None = None  # of the step in progress, where they have to be counted over ranks
        self._step_masked: int | None = None  # this rank's sequences left out of it, where any may be
        self.step_routing = StepRouting(balancing)  # of the last step once it has ended; of a sparse decoder

    def configure_model(self) -> None:
        """Builds the decoder on the meta device, compiles its blocks to train, and fills it where it will live.

        The order is activation checkpointing, compilation, sharding: each then contains the one before.
        """
        is_new = self.decoder is None
        if is_new:
            with torch.device("meta"):
                self.decoder = Decoder(self.decoder_config)
            checkpoint_activations(self.decoder, self.activation_checkpointing)
        if self.compiled and self.trainer.state.fn == TrainerFn.FITTING:
            compile_blocks(self.decoder)
        if is_new:
            strategy = self.trainer.strategy
            if isinstance(strategy, FSDP2Strategy):
                shard(self.decoder, strategy.sharding_mesh, str(self.trainer.precision))
            self.decoder.to_empty(device=strategy.root_device)
            self.decoder.tie_embeddings()
            if self.initial_weights is None:
                initialize(self.decoder, self.seed)
            else:
                found = find_initial_weights(self.initial_weights, self.decoder_config)
                restart_modules(self.decoder, self.seed)
                load_initial_weights(self.decoder, found)
                self.hparams["initial_weights"] = str(found)

    def setup(self, stage: str) -> None:
        """Checks tokens, compiler and schedule before anything is written; makes a loss accumulator for each domain."""
        _check_trainer(self.trainer)
        data = self.trainer.datamodule
        require_window(self.decoder_config, data.sequence_length)
        require_vocabulary(self.decoder_config, data.training_data)
        if stage == "fit":
            if self.compiled:
                require_compiler(self.trainer.strategy.root_device)
                self._require_whole_graphs()
            self.learning_rate_factor = build_schedule(
                self.schedule_config, self.trainer.max_steps, data.tokens_per_step
            )
        self.domain_losses = torch.nn.ModuleList(DomainLoss() for _ in data.validation_domains)

    def forward(self, input_ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """(batch, sequence) int64 -> logits (batch, sequence, vocab_size); `positions` keep documents apart."""
        return self.decoder(input_ids, positions)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The micro-batch's share of the step's mean loss.

        The sum is divided by the targets of the whole optimizer step. Lightning divides by the micro-batches and the
        ranks' gradients are averaged, so both factors are put back here.
        """
        sums, routings = self._loss(batch, self.z_loss_weight)
        targets = self._num_step_targets(batch)
        if self._step_sums is None:
            self.step_routing = StepRouting(self.balancing_config)
        self._count(torch.stack([sums.negative_log_likelihood, sums.squared_log_normalizer]) / targets)
        if "num_masked_sequences" in batch:
            self._step_masked = (self._step_masked or 0) + batch["num_masked_sequences"]
        micro_batches, ranks = self.trainer.accumulate_grad_batches, self.trainer.world_size
        loss = sums.total / targets
        if routings:
            balance = self.step_routing.loss(routings, batch["input_ids"].numel(), ranks, self._sum_over_ranks)
            loss = loss + balance / micro_batches
        return loss * (micro_batches * ranks)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the global norm and has the step judged; logs the norm before and the loss at the trainer's interval.

        A fused optimizer takes `found_inf` from the device: at 1 it leaves weights, moments and its step as they are.
        Replaces Lightning's own, which refuses a fused optimizer under mixed precision.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._trained, gradient_clip_val or math.inf)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm  # collective: before any rank returns
        sums, self._step_sums, self._step_targets = self._step_sums, None, None
        masked, self._step_masked = self._step_masked, None
        if self.decoder_config.mixture_of_experts is not None:
            sums = torch.cat([sums, self.step_routing.sums / self.trainer.accumulate_grad_batches])
        step = self.trainer.global_step + 1  # the one that ends now
        sums, norm = over_ranks(sums, norm, self.trainer.world_size)
        optimizer.found_inf = self.step_guard.judge(sums[0], norm, step)
        if self.decoder_config.mixture_of_experts is not None:
            self.step_routing.move_biases(self.decoder, optimizer.found_inf)
        if step % self.trainer.log_every_n_steps:
            return
        loss, z_loss, *router_losses = sums.tolist()
        scalars = {"train/loss": loss, "optim/lr": optimizer.param_groups[0]["lr"], "optim/grad_norm": norm.item()}
        if self.z_loss_weight > 0:
            scalars["train/z_loss"] = z_loss
        scalars |= dict(zip(("train/load_balance_loss", "train/router_z_loss"), router_losses, strict=False))
        if masked is not None:
            scalars["data/masked_sequences"] = self._sum_over_ranks(torch.tensor(masked, device=self.device)).item()
        log_scalars(self.trainer, scalars, step)

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Adds the batch's sums to its domain."""
        with uncompiled():  # a domain's last batch is smaller, and there are no gradients
            sums, _ = self._loss(batch)
        self.domain_losses[dataloader_idx].update(sums.negative_log_likelihood, sums.num_tokens)

    def on_validation_epoch_end(self) -> None:
        """Logs every domain's loss, perplexity and bits per byte, and their unweighted mean loss as val/loss."""
        reshard(self.decoder)
        data, losses, scalars = self.trainer.datamodule, [], {}
        for domain, metric in zip(data.validation_domains, self.domain_losses, strict=True):
            losses.append(metric.compute().item())
            scalars |= loss_scalars(domain, losses[-1], data.training_data.tokens_per_byte(domain))
            metric.reset()
        scalars["val/loss"] = sum(losses) / len(losses)
        log_scalars(self.trainer, scalars)
        # What trainer.validate returns. Equal on all ranks already; Lightning asks for a reduction all the same.
        self.log_dict(scalars, logger=False, sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with the schedule stepped after each optimizer step."""
        optimizer = build_optimizer(self.optimizer_config, self.decoder)
        self._trained = list(self.parameters())  # finding them takes longer than a small model's norm
        # A plain function: LambdaLR would save a callable object's fields, and a resume would restore the old schedule.
        factor = self.learning_rate_factor
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step))
        self._settings = [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Puts this run's optimizer settings back, where a checkpoint has brought its own."""
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        scheduler.base_lrs = [settings["initial_lr"] for settings in self._settings]
        for group, settings in zip(optimizer.param_groups, self._settings, strict=True):
            group.update(settings)
            group["lr"] = settings["initial_lr"] * self.learning_rate_factor(self.trainer.global_step)

    def on_train_batch_end(self, *_) -> None:
        """Stops after the last step in the way that makes Lightning validate it, whatever the interval."""
        if self.trainer.global_step >= self.trainer.max_steps > 0:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what steps are judged by."""
        checkpoint["step_guard"] = self.step_guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another decoder, naming what differs."""
        theirs = checkpoint["hyper_parameters"]
        differing = differences(DecoderConfig.from_dict(theirs["decoder"]), self.decoder_config)
        if differing:
            what = ", ".join(differing.values())
            raise InputError(f"ckpt_path: the checkpoint is of another decoder: {what}; resume with its own config")
        self.hparams["initial_weights"] = theirs.get("initial_weights")  # where this training began
        self.step_guard.load_state_dict(checkpoint.get("step_guard", {}))

    def _loss(self, batch: dict[str, Any], z_loss_weight: float = 0.0) -> tuple[LossSums, list[Routing]]:
        read = read_loss(batch["labels"], z_loss_weight)
        return self.decoder(batch["input_ids"], batch.get("positions"), read=read, with_routings=True)

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(tensor, reduce_op="sum")

    def _require_whole_graphs(self) -> None:
        """Refuses what cuts a compiled block in the middle of a selectively checkpointed region, which torch cannot do.

        Under FSDP2 in bf16 the parameters of activations and routers are gathered apart, in the middle of the block.
        """
        config, trainer = self.decoder_config, self.trainer
        is_cut = isinstance(trainer.strategy, FSDP2Strategy) and str(trainer.precision) == "bf16-mixed"
        if self.activation_checkpointing != "selective" or not is_cut:
            return
        sparse = config.mixture_of_experts is not None
        if sparse or config.build_activation().num_coefficients:
            of = "a mixture of experts" if sparse else f"{config.activation.name}, which has coefficients"
            raise InputError(
                "model.activation_checkpointing: selective does not work with model.compile under FSDP2 in bf16-mixed "
                f"for {of}; give full, or set model.compile to false"
            )

    def _num_step_targets(self, batch: dict[str, Any]) -> int | Tensor:
        """Targets of the whole optimizer step: as the batch says, or summed over ranks in the first micro-batch."""
        if "num_step_targets" in batch:
            return batch["num_step_targets"]
        if self._step_targets is None:
            own = torch.tensor(batch["num_rank_targets"], device=self.device)
            # A step of end-of-text tokens only has none, and a sum of 0.
            self._step_targets = self._sum_over_ranks(own).clamp(min=1)
        return self._step_targets

    def _count(self, sums: Tensor) -> None:
        self._step_sums = sums if self._step_sums is None else self._step_sums + sums


def _check_trainer(trainer: L.Trainer) -> None:
    """Refuses settings of the trainer under which a run would be silently wrong."""
    if str(trainer.precision) not in PRECISIONS:
        raise InputError(f"trainer.precision: found {trainer.precision}; use {' or '.join(PRECISIONS)}")
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy | FSDP2Strategy):
        raise InputError(
            f"trainer.strategy: found {type(trainer.strategy).__name__}; use auto, ddp, or FSDP2Strategy as in "
            "configs/trainer/fsdp.yaml"
        )
    if (trainer.gradient_clip_val or 0) < 0:
        raise InputError(f"trainer.gradient_clip_val: found {trainer.gradient_clip_val}; give 0 (off) or a norm")
    if trainer.gradient_clip_algorithm not in (None, "norm"):
        found = getattr(trainer.gradient_clip_algorithm, "value", trainer.gradient_clip_algorithm)
        raise InputError(f"trainer.gradient_clip_algorithm: found '{found}'; only norm is known")
    if trainer.log_every_n_steps < 1:
        raise InputError(f"trainer.log_every_n_steps: found {trainer.log_every_n_steps}; it must be at least 1")
