"""How long training waits for a save, with `checkpoint.asynchronous` and without, and what the writing costs the steps.

    python benchmarks/checkpoint_saves.py [--hidden_size 768] [--layers 12] [--saves 5] [--folder .]

One process on the CPU. A save is of weights and both moments of AdamW, 12 bytes a parameter. The two kinds alternate;
medians are printed. `steps meanwhile` are optimizer steps beside the writing, as a ratio to those of an idle disk.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.checkpoints.background import Save
from lightning_polycom.checkpoints.single_file import write_file
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer


def main() -> None:
    """Alternates both kinds of save between steps and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("hidden_size", 768), ("layers", 12), ("saves", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", default=".", help="where the checkpoints are written, and removed again")
    options = parser.parse_args()
    step, state = training(options.hidden_size, options.layers)
    idle = statistics.median(seconds(step) for _ in range(5))
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    waits: dict[bool, list[float]] = {False: [], True: []}
    writes, meanwhile = [], []
    try:
        for _ in range(options.saves):
            for background in (False, True):
                save = Save(background, lambda: None)
                begun = time.perf_counter()
                waits[background].append(
                    seconds(lambda save=save: save.run(partial(write_file, path=folder / "x.ckpt"), state()))
                )
                while not save.is_done:
                    meanwhile.append(seconds(step))
                save.wait()
                if save.problem is not None:
                    raise save.problem
                if background:
                    writes.append(time.perf_counter() - begun)
        size = (folder / "x.ckpt").stat().st_size
    finally:
        shutil.rmtree(folder)
    wait, copying = (statistics.median(waits[background]) for background in (False, True))
    print(f"checkpoint of {size / 1e9:.2f} GB, step of {idle:.2f} s")
    print(f"training waits {wait:.2f} s for a synchronous save, {copying:.2f} s for an asynchronous one")
    print(
        f"the latter is written after {statistics.median(writes):.2f} s; "
        f"steps meanwhile take {statistics.median(meanwhile) / idle:.2f} of an idle one's time"
    )


def training(hidden_size: int, layers: int) -> tuple[Callable[[], None], Callable[[], dict]]:
    """An optimizer step, and the state as a checkpoint holds it."""
    config = DecoderConfig(16384, hidden_size, layers, hidden_size // 64, 4 * hidden_size, ActivationConfig("polynorm"))
    decoder = Decoder(config)
    initialize(decoder, 1)
    optimizer = build_optimizer(OptimizerConfig(), decoder)
    ids = torch.randint(0, 16384, (1, 129))

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(decoder(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    print(f"{config.num_parameters:,} parameters, {torch.get_num_threads()} threads")
    return step, lambda: {"state_dict": decoder.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock time of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
