"""Initial weights as a pure function of (seed, parameter name): the same for any device, rank count or arm."""

import math
import zlib

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lightning_polycom.model.config import DecoderConfig
from lightning_polycom.model.decoder import Decoder
from lightning_polycom.model.feed_forward import FeedForward
from lightning_polycom.model.mixture_of_experts import Router
from lightning_polycom.model.mixture_of_experts.layer import MixtureOfExperts
from lightning_polycom.model.normalization import RMSNorm

RESIDUAL_OUTPUTS = ("attention.output", "feed_forward.down", "feed_forward.shared.down")


def initialize(decoder: Decoder, seed: int) -> None:
    """Fills every parameter in place, as the paper does.

    A parameter's values depend on the seed, its own name and its shape only. So two decoders that differ in the
    activation start with the same values everywhere else, and so do replicas and shards.
    """
    restart_modules(decoder, seed)
    # Coefficients per channel are matrices too, but start as their activation says.
    layers = [module for module in decoder.modules() if isinstance(module, FeedForward | MixtureOfExperts)]
    settled = {id(parameter) for layer in layers for parameter in layer.activation.parameters()}
    for name, parameter in decoder.named_parameters():
        if parameter.ndim >= 2 and id(parameter) not in settled:
            values = _random_matrix(parameter.shape, _deviation(name, decoder.config), decoder.config, seed, name)
            _fill(parameter, values)


def restart_modules(decoder: Decoder, seed: int) -> None:
    """Fills in place what is not drawn: norms, activations, and buffers, which no file of weights may hold."""
    for module in decoder.modules():
        if isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, Router):
            module.reset_buffers()
        elif isinstance(module, FeedForward | MixtureOfExperts):
            _restart(module, seed)


def _restart(feed_forward: FeedForward | MixtureOfExperts, seed: int) -> None:
    """Gives its activation the parameters and buffers that their class makes, whoever wrote it.

    After the meta device they hold nothing, and only the class knows what they should be.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        fresh = feed_forward.new_activation()
        fresh.reset_parameters()  # a class may set its values there, or at once
    for name, parameter in fresh.named_parameters():
        _fill(feed_forward.activation.get_parameter(name), parameter)
    for name, buffer in fresh.named_buffers():
        _fill(feed_forward.activation.get_buffer(name), buffer)


def _fill(target: Tensor, values: Tensor) -> None:
    """Copies whole `values` into `target`, or into a sharded one this rank's part of them."""
    with torch.no_grad():
        if isinstance(target, DTensor):
            # Every rank has the whole; without a source rank nothing is sent.
            values = values.detach().to(target.device)
            values = distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)
        target.copy_(values)


def _deviation(name: str, config: DecoderConfig) -> float:
    """The standard deviation of the matrix called `name`."""
    deviation = config.initialization.standard_deviation
    if deviation is None:
        deviation = math.sqrt(2 / (5 * config.hidden_size))
    feeds_residual = name.removesuffix(".weight").endswith(RESIDUAL_OUTPUTS)
    if config.initialization.scale_residual_outputs and feeds_residual:
        deviation /= math.sqrt(2 * config.num_layers)
    return deviation


def _random_matrix(shape: torch.Size, deviation: float, config: DecoderConfig, seed: int, name: str) -> Tensor:
    """An fp32 CPU tensor drawn from the configured distribution with a generator of its own."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    values = torch.empty(shape, dtype=torch.float32)
    if config.initialization.distribution == "normal":
        return values.normal_(0, deviation, generator=generator)
    cut = 3 * deviation
    return nn.init.trunc_normal_(values, 0, deviation, -cut, cut, generator=generator)
