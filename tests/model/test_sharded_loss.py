"""The decoder's own loss on two gloo processes, the weights sharded with fully_shard or replicated with DDP."""

import copy
import gc
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model import linear_cross_entropy as subject

WORLD = 2


def train(rank: int, rendezvous: Path, sharded: bool, tied: bool) -> None:
    """Compares in a process group, and leaves it once nothing of the model holds it any more.

    A DDP model that outlives it would end it with the interpreter locked, for which gloo's thread may be waiting.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD)
    compare(rank, sharded, tied)
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def compare(rank: int, sharded: bool, tied: bool) -> None:
    """Compares each rank's loss and the averaged gradients with those of whole logits in one process."""
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(61, 32, 2, 4, 64, tie_embeddings=tied))
    alone, tokens = copy.deepcopy(decoder), torch.randint(0, 61, (WORLD, 17))
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    expected = alone(inputs, read=subject.read_loss(labels, 0.01)).total / WORLD
    expected.backward()
    subject.WHOLE_LOGITS_BYTES = 0
    if sharded:
        for block in decoder.blocks:
            fully_shard(block)
    model = fully_shard(decoder) if sharded else DistributedDataParallel(decoder)
    own = slice(rank, rank + 1)
    total = model(inputs[own], read=subject.read_loss(labels[own], 0.01)).total
    total.backward()
    mean = total.detach().clone()
    dist.all_reduce(mean)
    torch.testing.assert_close(mean / WORLD, expected.detach())
    for (name, one), two in zip(alone.named_parameters(), decoder.parameters(), strict=True):
        found = two.grad.full_tensor() if sharded else two.grad
        assert (found - one.grad).norm() <= 1e-5 * one.grad.norm(), name


@pytest.mark.parametrize(("sharded", "tied"), [(True, False), (True, True), (False, False)])
def test_two_processes_train_on_chunks_as_one_on_whole_logits(tmp_path, sharded, tied):
    torch.multiprocessing.spawn(train, (tmp_path / "rendezvous", sharded, tied), nprocs=WORLD)
