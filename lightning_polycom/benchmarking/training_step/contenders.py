"""Who trains the same decoder on the same batches: `polycom fit`, and hand-written loops over ours and others'."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_polycom.benchmarking.training_step.shapes import SHAPES, TrainingShape
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.training.compilation import compile_blocks

SEED = 1234
CONTENDERS = {
    "fit": "polycom fit, logging on",
    "bare": "a bare loop over our decoder",
    "transformers": "a bare loop over LlamaForCausalLM",
    "litgpt": "a bare loop over litgpt's GPT",
    "plain": "a bare loop over a decoder by hand",
}
AUTHORS = "lightning_polycom.benchmarking.authors_formula.AuthorsPolyNorm"
ARMS = {"swiglu": "swiglu", "polynorm": "polynorm", "polyrelu": "polyrelu", "authors": AUTHORS}

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """What one process trains: a contender, its activation, and how.

    `activation` is a name of the registry or an import path; others than ours have SwiGLU. `peers` is a folder with
    packages that cannot be installed beside ours.
    """

    contender: str
    shape: str
    activation: str = "swiglu"
    precision: str = "32-true"
    compiled: bool = False
    device: str = "cpu"
    threads: int | None = None
    batch: int | None = None
    peers: str | None = None

    @property
    def training_shape(self) -> TrainingShape:
        """The shape, with this case's batch."""
        shape = SHAPES[self.shape]
        return shape if self.batch is None else TrainingShape(**{**vars(shape), "batch": self.batch})


def build(case: Case) -> tuple[nn.Module, Loss]:
    """A hand-written loop's model on the CPU, and its mean loss of (batch, sequence) ids and labels.

    Compiled as its own users do: ours block by block, the others whole.

    Raises:
        InputError: a package that is not there.
    """
    shape, config = case.training_shape, case.training_shape.decoder_config(case.activation)
    torch.manual_seed(SEED)
    if case.contender == "bare":
        return our_decoder(config, case.compiled)
    made = {"transformers": _transformers, "litgpt": _litgpt, "plain": _plain}[case.contender]
    model, loss = made(config, shape)
    # In place: the parameters keep their names, and what is compiled is what is called.
    if case.compiled:
        model.compile()
    return model, loss


def our_decoder(config: DecoderConfig, compiled: bool) -> tuple[nn.Module, Loss]:
    """A new decoder on the CPU, and its mean loss of (batch, sequence) ids and labels; compiled block by block."""
    decoder = Decoder(config)
    initialize(decoder, SEED)
    if compiled:
        compile_blocks(decoder)

    def loss(input_ids: Tensor, labels: Tensor) -> Tensor:
        return decoder(input_ids, read=read_loss(labels)).total / labels.numel()

    return decoder, loss


def _plain(config: DecoderConfig, shape: TrainingShape) -> tuple[nn.Module, Loss]:
    from lightning_polycom.benchmarking.training_step.plain_decoder import PlainDecoder

    sizes = (config.vocab_size, config.hidden_size, config.num_layers, config.num_heads, config.feed_forward_size)
    model = PlainDecoder(*sizes, shape.sequence, config.norm_eps)
    return model, model


def _transformers(config: DecoderConfig, shape: TrainingShape) -> tuple[nn.Module, Loss]:
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise InputError("contender transformers: not installed; pip install transformers") from error
    theirs = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feed_forward_size,
        max_position_embeddings=shape.sequence,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(theirs)

    def loss(input_ids: Tensor, labels: Tensor) -> Tensor:
        return model(input_ids=input_ids, labels=labels, shift_labels=labels).loss

    return model, loss


def _litgpt(config: DecoderConfig, shape: TrainingShape) -> tuple[nn.Module, Loss]:
    try:
        from litgpt.config import Config
        from litgpt.model import GPT
        from litgpt.utils import chunked_cross_entropy
    except ImportError as error:
        raise InputError(
            "contender litgpt: cannot be imported; pip install --no-deps --target FOLDER litgpt==0.5.13 and give "
            f"--peers FOLDER ({error})"
        ) from error
    theirs = Config(
        name="benchmark",
        block_size=shape.sequence,
        vocab_size=config.vocab_size,
        padded_vocab_size=config.vocab_size,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        n_embd=config.hidden_size,
        intermediate_size=config.feed_forward_size,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=config.norm_eps,
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(theirs)

    def loss(input_ids: Tensor, labels: Tensor) -> Tensor:
        return chunked_cross_entropy(model(input_ids), labels)

    return model, loss
