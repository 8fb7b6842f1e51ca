"""A checkpoint as a model of lm-eval's own command line and of `lm_eval.simple_evaluate(model="polycom", ...)`."""

from typing import Any

from lightning_polycom.checkpoints import load_decoder, locate_checkpoint
from lightning_polycom.checkpoints.locate import run_folder_of
from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.adapter import DecoderLM
from lightning_polycom.evaluation.live_decoder import evaluation_precision, placed
from lightning_polycom.training.run_folder import read_record


class CheckpointModel(DecoderLM):
    """A `DecoderLM` of the decoder and the tokenizer of a checkpoint; `polycom` in lm-eval's registry.

    Args:
        checkpoint: A .ckpt file, a run's folder (its newest step) or runs/NAME.
        batch_tokens: Tokens per forward pass.
        precision: fp32 or bf16; default that of the training run.
        device: Where to compute; default a GPU if there is one.
        batch_size: lm-eval passes its --batch_size on; only its default, 1, is taken, because batches go by tokens.

    Raises:
        InputError: no such checkpoint, device or precision, a batch size, or an unknown argument.
    """

    def __init__(
        self,
        checkpoint: str = "",
        batch_tokens: int = 8192,
        precision: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        **unknown: Any,
    ):
        if not checkpoint:
            raise InputError("model_args: name a .ckpt file or a run's folder, checkpoint=...")
        if unknown:
            raise InputError(
                f"model_args: {', '.join(sorted(unknown))} unknown; the model takes checkpoint, batch_tokens, "
                "precision and device"
            )
        if str(batch_size) != "1":
            raise InputError(f"batch_size: found {batch_size}; leave it out and set batch_tokens in --model_args")
        file = locate_checkpoint(checkpoint)
        decoder, tokenizer = load_decoder(file)
        precision = precision or evaluation_precision(read_record(run_folder_of(file))["precision"])
        super().__init__(
            placed(decoder, device), tokenizer, batch_tokens, precision, bos_token_id=tokenizer.bos_token_id
        )
