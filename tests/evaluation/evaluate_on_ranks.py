"""Run by test_two_ranks.py in each of several processes: `evaluate_on_ranks.py <rank> <world size> <folder> <tasks>`.

Evaluates a tiny decoder, whole and sharded, on data in `folder`; writes this rank's results there.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
from lm_eval.api.instance import Instance
from tiny_language_model import ByteTokenizer, TinyDecoder

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import DecoderLM, load_tasks, run_evaluation

NAMES = ["heldout_continuation", "heldout_perplexity_library", "heldout_perplexity_tests"]


def outcome(lm: DecoderLM, folder: Path, tasks: str) -> dict:
    loaded = load_tasks([*NAMES, "arc_easy"], [tasks], folder / "prepared")
    first = run_evaluation(lm, loaded)
    second = run_evaluation(lm, loaded)
    cases = [("once", {"until": ["\n"], "max_gen_toks": n}) for n in (9, 3, 1)]
    prompts = [Instance("generate_until", {}, case, i, metadata=("g", i, 1)) for i, case in enumerate(cases)]
    examples = "examples before every question......"
    questions = [(f"{examples}{i:02}?", f" {answer}") for i in range(20) for answer in ("yes", "no")]
    answered = [Instance("loglikelihood", {}, case, i, metadata=("g", i, 1)) for i, case in enumerate(questions)]
    try:
        load_tasks(["heldout_continuation"], [f"{tasks}-elsewhere"], folder)
        error = None
    except InputError as refused:
        error = str(refused)
    return {
        "results": first["results"],
        "again": second["results"],
        "failed": sorted(first["polycom"]["failed"]),
        "shared": [value for value, _ in lm.loglikelihood(answered)],
        "generated": lm.generate_until(prompts),
        "error": error,
        "missing": load_tasks(["heldout_continuation"], [tasks], folder).failed["heldout_continuation"],
    }


def different_requests(lm: DecoderLM, rank: int) -> str:
    try:
        lm._loglikelihood_tokens([(None, [1], [rank])])
    except RuntimeError as error:
        return str(error)
    return "no error"


def sharded(decoder: TinyDecoder, world_size: int) -> TinyDecoder:
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.init_device_mesh("cpu", (world_size,))
    fully_shard(decoder.blocks[0], mesh=mesh)
    return fully_shard(decoder, mesh=mesh)


def evaluate(decoder: TinyDecoder, folder: Path, tasks: str) -> dict:
    decoder.train()
    values = outcome(DecoderLM(decoder, ByteTokenizer(), batch_tokens=100), folder, tasks)
    parameters = [type(parameter).__name__ for parameter in decoder.parameters()]
    return {**values, "calls": decoder.calls, "training": decoder.training, "parameters": sorted(set(parameters))}


def main() -> None:
    rank, world_size, folder, tasks = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", store, timedelta(seconds=60), rank=rank, world_size=world_size)
    decoder = TinyDecoder(257, 48)
    values = {
        "copies": evaluate(decoder, folder, tasks),
        "sharded": evaluate(sharded(TinyDecoder(257, 48), world_size), folder, tasks),
        "different": different_requests(DecoderLM(decoder, ByteTokenizer()), rank),
    }
    (folder / f"{rank}.json").write_text(json.dumps(values))
    torch.distributed.barrier()  # a rank that ends while the other still talks to it brings that one down
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
