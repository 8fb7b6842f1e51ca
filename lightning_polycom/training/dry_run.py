"""What a run would be, before anything is trained."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from rich.table import Table

from lightning_polycom.data.batches import BatchPlan
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.data.mixture import MixtureOrder, mixture_sources
from lightning_polycom.data.training_data import TrainingData
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder
from lightning_polycom.training.compilation import missing_compiler
from lightning_polycom.training.fit_to_data import require_vocabulary, require_window
from lightning_polycom.training.fsdp_strategy import FSDP2Strategy
from lightning_polycom.training.initial_weights import find_initial_weights
from lightning_polycom.training.module import LanguageModel
from lightning_polycom.training.schedules import build_schedule
from lightning_polycom.training.step_memory import StepShape, Uncountable, count_step_memory


def print_plan(model: LanguageModel, data: TokenDataModule, trainer: L.Trainer) -> None:
    """Prints parameters, FLOPs, tokens, steps, memory and data of a run, building the decoder on the meta device.

    Raises:
        InputError: settings that a real run would refuse too.
    """
    table = Table("", "", show_header=False, title="Dry run", title_justify="left")
    for name, value in plan_rows(model, data, trainer):
        table.add_row(name, value)
    Console().print(table)


def plan_rows(model: LanguageModel, data: TokenDataModule, trainer: L.Trainer) -> list[tuple[str, str]]:
    """The plan as (name, value) pairs."""
    config = model.decoder_config
    with torch.device("meta"):
        Decoder(config)
    plan = BatchPlan(data.global_batch_size, data.micro_batch_size, trainer.world_size)
    require_window(config, data.sequence_length)
    begin = [] if model.initial_weights is None else [str(find_initial_weights(model.initial_weights, config))]
    if _is_there(data):
        training_data = TrainingData(data.selection)
        require_vocabulary(config, training_data)
        training_data.num_samples(data.sequence_length)
    steps = data.max_steps or trainer.max_steps
    build_schedule(model.schedule_config, steps, data.tokens_per_step)
    flops, tokens = config.flops_per_token(data.sequence_length), steps * data.tokens_per_step
    mismatch = f", {config.feed_forward_mismatch:+.2%} parameters against two matrices" if config.is_gated else ""
    return [
        ("activation", f"{config.activation.name}, width {config.feed_forward_size}{mismatch}"),
        ("parameters", f"{config.num_parameters:,}"),
        ("active parameters", f"{config.num_active_parameters:,}"),
        ("FLOPs per token", f"{flops:,} (forward and backward, sequence {data.sequence_length:,})"),
        ("activations' cost", _activation_row(model, trainer)),
        ("steps", f"{steps:,}" if steps > 0 else "no end; set trainer.max_steps or data.max_tokens"),
        ("tokens per step", f"{data.tokens_per_step:,}"),
        ("tokens", f"{tokens:,}" if steps > 0 else "no end"),
        ("training FLOPs", f"{tokens * flops:.3e}" if steps > 0 else "no end"),
        ("batch", f"{plan.micro_batch_size} sequences x {plan.world_size} ranks x {plan.accumulation} micro-batches"),
        ("memory per device", _memory_row(model, step_shape(model, data, trainer))),
        ("documents", "kept apart" if data.separate_documents else "attend to each other within a sequence"),
        *([("repetitions", "sequences with one are left out of the loss")] if data.mask_repetitions else []),
        ("compiled", _compiled_row(model, trainer)),
        ("data", _data_row(data)),
        *([("validation", _validation_row(data))] if _is_there(data) else []),
        *([] if data.mixture is None else [("mixture", _mixture_row(data, steps))]),
        *[("initial weights", found) for found in begin],
        ("run folder", str(Path(trainer.default_root_dir))),
    ]


def step_shape(model: LanguageModel, data: TokenDataModule, trainer: L.Trainer) -> StepShape:
    """What the memory of a run's training step depends on, beside the decoder."""
    strategy, world_size = trainer.strategy, trainer.world_size
    is_sharded = isinstance(strategy, FSDP2Strategy)
    copies = strategy.replicate_size if is_sharded else 1
    if world_size % copies:
        raise InputError(f"trainer.strategy.replicate_size: {copies} does not divide the number of ranks, {world_size}")
    ddp_options = strategy._ddp_kwargs if isinstance(strategy, DDPStrategy) else {"gradient_as_bucket_view": True}
    return StepShape(
        data.micro_batch_size,
        data.sequence_length,
        BatchPlan(data.global_batch_size, data.micro_batch_size, world_size).accumulation,
        data.separate_documents,
        str(trainer.precision),
        model.activation_checkpointing,
        model.z_loss_weight,
        sharded_over=world_size // copies if is_sharded else None,
        replicate_size=copies,
        gradient_buckets=not ddp_options.get("gradient_as_bucket_view", False),
    )


def _memory_row(model: LanguageModel, step: StepShape) -> str:
    """The step's peak and its parts, where the decoder can be run without values."""
    try:
        memory = count_step_memory(model.decoder_config, step)
    except Uncountable as error:
        return f"not known before a run: the decoder needs values ({error})"
    parts = ", ".join(f"{kind} {size / 2**30:.2f}" for kind, size in memory.parts.items())
    bound = "at most " if model.compiled else ""  # compiled blocks keep less
    return f"{bound}{memory.peak / 2**30:.2f} GiB of tensors ({parts})"


def _mixture_row(data: TokenDataModule, steps: int) -> str:
    """Each domain's share, and how often the run goes through it, where that is known."""
    total = sum(data.mixture.values())
    shares = {domain: f"{domain} {weight / total:.2%}" for domain, weight in data.mixture.items()}
    if steps > 0 and _is_there(data):
        spans = TrainingData(data.selection).train_spans
        sources = mixture_sources(spans, data.seed, data.sequence_length, sorted(data.mixture))
        epochs = MixtureOrder(sources, data.weightings).epochs(steps * data.global_batch_size)
        shares = {domain: f"{share} ({epochs[domain]:.2f} epochs)" for domain, share in shares.items()}
    return ", ".join(shares.values())


def _activation_row(model: LanguageModel, trainer: L.Trainer) -> str:
    """What the activations cost when fused; no part of the FLOPs per token, because traffic is what they cost."""
    config, element_size = model.decoder_config, 2 if str(trainer.precision).startswith("bf16") else 4
    flops, traffic = config.activation_flops_per_token, config.activation_bytes_per_token(element_size)
    return f"{flops:,} FLOPs and {traffic:,} bytes of memory traffic per token, beside the above"


def _compiled_row(model: LanguageModel, trainer: L.Trainer) -> str:
    """Says what this machine lacks rather than refuse: the run may be meant for another."""
    if not model.compiled:
        return "no"
    missing = missing_compiler(trainer.strategy.root_device)
    return "each block, in the first step" if missing is None else f"each block, but not on this machine: {missing}"


def _data_row(data: TokenDataModule) -> str:
    if not _is_there(data):
        return f"{data.folder}: not prepared yet"
    found = TrainingData(data.selection)
    tokens = sum(record.num_tokens for record in found.records() if record.split == "train")
    tokenizer = "" if data.folder is not None else f", tokenizer {found.tokenizer.file}"
    return f"{data.selection}: {tokens:,} training tokens, fingerprint {found.fingerprint[:12]}{tokenizer}"


def _validation_row(data: TokenDataModule) -> str:
    """The domains and their tokens, those of a prepared folder and the named ones."""
    records = TrainingData(data.selection).records()
    found = [f"{record.domain} {record.num_tokens:,}" for record in records if record.split == "validation"]
    return f"{', '.join(found)} tokens" if found else "none"


def _is_there(data: TokenDataModule) -> bool:
    """Whether there is something to open: a folder may still have to be prepared, shards of other tools are there."""
    return data.folder is None or (data.folder / "manifest.json").exists()
