"""Whether a decoder can take the data that it is to be trained on."""

from lightning_polycom.data.training_data import TrainingData
from lightning_polycom.errors import InputError
from lightning_polycom.model import DecoderConfig


def require_window(config: DecoderConfig, sequence_length: int) -> None:
    """Raises where a sample is longer than the decoder's window.

    Raises:
        InputError: both lengths.
    """
    if sequence_length > config.max_sequence_length:
        raise InputError(
            f"data.sequence_length: {sequence_length} exceeds decoder.max_sequence_length "
            f"{config.max_sequence_length}; make them equal"
        )


def require_vocabulary(config: DecoderConfig, data: TrainingData) -> None:
    """Raises where the tokenizer has ids that the decoder has no rows for.

    Raises:
        InputError: both sizes.
    """
    tokenizer = data.tokenizer
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"decoder.vocab_size: {config.vocab_size} is less than the {tokenizer.vocab_size} tokens of "
            f"{tokenizer.file} of {data.selection}; set it to {tokenizer.vocab_size} or more"
        )
