"""Token shards as a LightningDataModule whose position is one integer."""

from pathlib import Path
from typing import Any

import lightning as L

from lightning_polycom.data.batches import BatchPlan, TrainingStream, ValidationWindows
from lightning_polycom.data.changed_data import DataChange, changed_data
from lightning_polycom.data.loader import BatchLoader
from lightning_polycom.data.mixture import MixtureOrder, Weighting, continued, mixture_sources
from lightning_polycom.data.order import SampleOrder
from lightning_polycom.data.preparation import PrepareConfig, prepare
from lightning_polycom.data.rank_errors import raise_on_all_ranks
from lightning_polycom.data.shard_selection import Paths, ShardSelection
from lightning_polycom.data.training_data import TrainingData
from lightning_polycom.errors import InputError


class TokenDataModule(L.LightningDataModule):
    """Serves windows of `sequence_length` tokens from prepared shards, or from those of other tools.

    The unit is the optimizer step: gradient accumulation is derived from the global batch, the micro-batch and the
    number of ranks, and the trainer's `val_check_interval` counts optimizer steps.

    Args:
        folder: A folder written by `polycom prepare`; with `prepare` set, it is made or brought up to date first. Null
            to train on `train`.
        sequence_length: Tokens per sample.
        global_batch_size: Sequences per optimizer step, over all ranks and micro-batches.
        micro_batch_size: Sequences per rank and forward pass.
        validation_batch_size: Sequences per rank and validation pass; default micro_batch_size.
        max_validation_tokens: Validate on about this many tokens of each domain, spread over it; default all.
        max_tokens: Train on this many tokens, rounded up to whole steps, instead of trainer.max_steps.
        seed: Seed of the sample order.
        mixture: Weight of each training domain in the stream of samples, by name; domains that are not named are left
            out. Default: all domains as one text, each as often as it has tokens.
        train: Shards of any tool to train on in place: a file, a folder, a glob, Megatron's prefix or a list of such,
            or several of these by the name of their domain; also prepared folders.
        validation: Validation domains in the same form, beside those of `folder`.
        tokenizer: The tokenizer that the shards of other tools were made with; prepared folders bring theirs.
        eos_token: Its end-of-text token; default the first usual one that it has.
        dtype: Of the ids in files that do not tell (nanoGPT's), for all shards of other tools or by domain.
        allow_changed_data: Resume also if the data is another than the checkpoint's: at the same position, in the
            stream of the new data. Another tokenizer is refused all the same.
        prepare: How to make the shards if they are missing or were made otherwise; null to only use what is there.
        separate_documents: Keeps the documents of a sequence apart, in training and validation: no attention from one
            to another, positions from 0 in each, and the first token of a document is no target.
        mask_repetitions: Leaves a training sequence out of the loss in which an n-gram of 1 to 13 tokens stands 32
            times or more in a row (OLMo's instance filter).
        num_workers: Processes that prepare batches; with 0 a thread does, which is faster.

    Raises:
        InputError: shards missing, truncated or too short, a batch that does not divide, a resume on other data.
    """

    _prepare_error: str | None = None  # of the rank that prepares

    def __init__(
        self,
        folder: str | None = None,
        sequence_length: int = 1024,
        global_batch_size: int = 64,
        micro_batch_size: int = 8,
        validation_batch_size: int | None = None,
        max_validation_tokens: int | None = None,
        max_tokens: int | None = None,
        seed: int = 1234,
        mixture: dict[str, float] | None = None,
        train: Paths | dict[str, Paths] | None = None,
        validation: Paths | dict[str, Paths] | None = None,
        tokenizer: str | None = None,
        eos_token: str | None = None,
        dtype: str | dict[str, str] | None = None,
        allow_changed_data: bool = False,
        prepare: PrepareConfig | None = None,
        separate_documents: bool = False,
        mask_repetitions: bool = False,
        num_workers: int = 0,
    ):
        super().__init__()
        _require_positive(sequence_length=sequence_length, validation_batch_size=validation_batch_size)
        _require_positive(max_validation_tokens=max_validation_tokens, max_tokens=max_tokens)
        if num_workers < 0:
            raise InputError(f"data.num_workers: found {num_workers}; give 0 (a thread) or a number of processes")
        self.folder = None if folder is None else Path(folder)
        self.selection = ShardSelection(self.folder, train, validation, tokenizer, eos_token, dtype)
        self.allow_changed_data = allow_changed_data
        self.data_changes: list[DataChange] = []  # that were allowed, at some resume
        self.sequence_length, self.seed = sequence_length, seed
        self.global_batch_size, self.micro_batch_size = global_batch_size, micro_batch_size
        self.validation_batch_size = validation_batch_size or micro_batch_size
        self.max_validation_tokens, self.max_tokens = max_validation_tokens, max_tokens
        self.prepare_config, self.mixture, self.num_workers = prepare, mixture, num_workers
        self.separate_documents, self.mask_repetitions = separate_documents, mask_repetitions
        self.weightings = [] if mixture is None else [Weighting(0, dict(mixture))]
        self.position = 0  # global samples trained on before this start
        self._first_step = 0  # the optimizer step at which this start began

    @property
    def tokens_per_step(self) -> int:
        """Tokens per optimizer step, over all ranks."""
        return self.global_batch_size * self.sequence_length

    @property
    def max_steps(self) -> int | None:
        """Optimizer steps that `max_tokens` asks for, or None."""
        return None if self.max_tokens is None else -(-self.max_tokens // self.tokens_per_step)

    @property
    def samples_trained(self) -> int:
        """Global samples trained on since the run's very first step: the position in the sample stream."""
        return self.position + (self.trainer.global_step - self._first_step) * self.global_batch_size

    @property
    def wait_seconds(self) -> float:
        """Time that this start's training spent waiting for batches."""
        return self._loader.wait_seconds

    def prepare_data(self) -> None:
        """Makes the shards on one process of each node, or finds them up to date by their fingerprint."""
        if self.prepare_config is not None:
            if self.folder is None:
                raise InputError("data.prepare: needs data.folder, the folder to make; name it, or set prepare to null")
            try:
                prepare(self.prepare_config, self.folder)
            except InputError as error:  # raised in `setup`, on all ranks: the others wait for this one meanwhile
                self._prepare_error = str(error)

    def setup(self, stage: str) -> None:
        """Opens the shards and fits the trainer's step counters to the global batch."""
        raise_on_all_ranks(self._prepare_error)
        self.training_data = TrainingData(self.selection)
        self.validation_domains = list(self.training_data.validation)
        trainer = self.trainer
        if stage == "validate" and not self.validation_domains:
            raise InputError("data.validation: empty; name the shards to validate on")
        if stage == "fit":
            self.plan = BatchPlan(self.global_batch_size, self.micro_batch_size, trainer.world_size)
            self.train_shards = self.training_data.train_shards
            if self.separate_documents:
                self.training_data.require_document_ends(in_one_text=self.mixture is None)
            self._order = self._sample_order()
            trainer.accumulate_grad_batches = self.plan.accumulation
            if isinstance(trainer.val_check_interval, int):
                if trainer.val_check_interval < 1:
                    raise InputError(
                        f"trainer.val_check_interval: found {trainer.val_check_interval}; it must be at least 1"
                    )
                trainer.val_check_interval *= self.plan.accumulation
            if self.max_steps is not None:
                trainer.fit_loop.epoch_loop.max_steps = self.max_steps

    def train_dataloader(self) -> BatchLoader:
        """The training stream of this rank, from the restored position on."""
        self._first_step = self.trainer.global_step
        # Lightning restores how many micro-batches were done; with another accumulation now that is another number.
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        done = self._first_step * self.plan.accumulation
        for counts in (progress.current, progress.total):
            counts.ready = counts.started = counts.processed = counts.completed = done
        stream = TrainingStream(
            self.train_shards,
            self._order,
            self.sequence_length,
            self.plan,
            self.trainer.global_rank,
            self.position,
            self.separate_documents,
            self.mask_repetitions,
        )
        self._loader = BatchLoader(stream, self.trainer.strategy.root_device, self.num_workers)
        return self._loader

    def val_dataloader(self) -> list[ValidationWindows]:
        """One loader per validation domain, in the order of `validation_domains`."""
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        return [
            ValidationWindows(
                self.training_data.validation[domain],
                self.sequence_length,
                self.validation_batch_size,
                rank,
                world_size,
                self.max_validation_tokens,
                self.separate_documents,
            )
            for domain in self.validation_domains
        ]

    def state_dict(self) -> dict[str, Any]:
        """The position in the sample stream, and what it is a position in."""
        return {
            "samples": self.samples_trained,
            "tokenizer": self.training_data.tokenizer.sha256,
            "eos_token": self.training_data.tokenizer.eos_token,
            "fingerprint": self.training_data.fingerprint,
            "domains": [list(record) for record in self.training_data.records()],
            "data_changes": [list(change) for change in self.data_changes],
            "seed": self.seed,
            "sequence_length": self.sequence_length,
            "separate_documents": self.separate_documents,
            "mask_repetitions": self.mask_repetitions,
            "mixture": [[weighting.start, weighting.weights] for weighting in self.weightings],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the stream where the checkpoint stopped; other data or order is an error, not a silent restart."""
        now = self.training_data.tokenizer
        # Checkpoints from before shards of other tools have no end of text; a prepared folder's cannot change alone.
        theirs = (state_dict["tokenizer"], state_dict.get("eos_token", now.eos_token))
        if theirs != (now.sha256, now.eos_token):
            raise InputError(
                f"data: the checkpoint was trained with tokenizer {theirs[0][:12]} and end of text {theirs[1]!r}, the "
                f"shards in {self.selection} are of {now.sha256[:12]} and {now.eos_token!r}; use shards of the run's "
                "tokenizer.json"
            )
        if self.trainer.state.fn != "fit":
            return  # held-out text of any kind may be scored
        for key, value in {"seed": self.seed, "sequence_length": self.sequence_length}.items():
            if state_dict[key] != value:
                raise InputError(
                    f"data: the checkpoint was trained on {key} {state_dict[key]}, this run has {value}; resume with "
                    "the same, or start a new run"
                )
        for option in ("separate_documents", "mask_repetitions"):
            ours, theirs = getattr(self, option), state_dict.get(option, False)  # older checkpoints lack it
            if theirs != ours:
                raise InputError(
                    f"data.{option}: found {ours}, the checkpoint was trained with {theirs}; "
                    "their losses do not compare, so resume with the same, or start a new run"
                )
        self.position = state_dict["samples"]
        self._accept_data(state_dict)
        self._continue_mixture([Weighting(*kept) for kept in state_dict.get("mixture", [])])

    def _accept_data(self, state_dict: dict[str, Any]) -> None:
        """Refuses other data than the checkpoint's, or goes on with it if that is allowed."""
        self.data_changes = [DataChange(*kept) for kept in state_dict.get("data_changes", [])]
        change = changed_data(state_dict, self.training_data)
        if change is None:
            return
        if not self.allow_changed_data:
            raise InputError(
                f"data: {change.what}, in {self.selection}; resume with the checkpoint's data, start a new run, or set "
                "data.allow_changed_data to go on with this"
            )
        self.data_changes.append(change)
        if self.trainer.is_global_zero:
            print(f"data: changed from sample {change.from_sample:,} on: {change.what}")

    def _continue_mixture(self, kept: list[Weighting]) -> None:
        """Goes on with the checkpoint's mixture, and with this run's weights from here on if they are others."""
        if bool(kept) != (self.mixture is not None):
            raise InputError(
                f"data.mixture: the checkpoint was trained {'with' if kept else 'without'} one; "
                f"{'give its weights or others' if kept else 'leave it out'}, or start a new run"
            )
        if kept:
            self.weightings = continued(kept, dict(self.mixture), self.position)
            self._order = self._sample_order()
            if self.weightings != kept and self.trainer.is_global_zero:
                print(f"data.mixture: other weights from sample {self.position:,} on: {self.mixture}")

    @property
    def epochs(self) -> dict[str, float]:
        """How often each domain of the mixture, or all text as `all`, has been trained on so far."""
        found = self._order.epochs(self.samples_trained)
        return found if isinstance(found, dict) else {"all": found}

    def _sample_order(self) -> SampleOrder | MixtureOrder:
        if self.weightings:
            # By name, so that neither the order in YAML nor a domain that joins later moves what was sampled before.
            domains = sorted({domain for _, weights in self.weightings for domain in weights})
            sources = mixture_sources(self.training_data.train_spans, self.seed, self.sequence_length, domains)
            return MixtureOrder(sources, self.weightings)
        num_samples = self.training_data.num_samples(self.sequence_length)
        return SampleOrder(num_samples, self.seed, self.training_data.fingerprint)


def _require_positive(**settings: int | None) -> None:
    for name, value in settings.items():
        if value is not None and value < 1:
            raise InputError(f"data.{name}: found {value}; it must be at least 1")
