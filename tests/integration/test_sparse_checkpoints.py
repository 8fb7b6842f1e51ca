"""A sparse sharded checkpoint in the commands that read one: consolidate, export, import, evaluate, generate."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Before transformers is imported: the modeling files of an export are copied there.
os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp(prefix="polycom-modules-"))

import pytest
import torch
import yaml

from lightning_polycom.checkpoints import load_decoder

ROOT = Path(__file__).parents[2]
OWN = {"mixture_of_experts": {"num_experts": 4, "experts_per_token": 2, "selection_bias": True}} | {
    "activation": {"name": "polynorm", "scope": "expert"}
}
TASKS = ("--tasks", '["heldout_continuation"]', "--include_path", '["data/tasks"]')


@pytest.fixture
def sharded(tiny_config, tmp_path) -> Path:
    """The run of two processes that share one sparse decoder."""
    values = yaml.safe_load(tiny_config.read_text())
    values["model"]["decoder"] |= OWN
    values["data"]["micro_batch_size"] = 2
    values["trainer"] |= {"max_steps": 2, "val_check_interval": 2}
    tiny_config.write_text(yaml.safe_dump(values))
    command = [
        sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config, "--config",
        "configs/trainer/fsdp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", 2,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return tmp_path / "runs/tiny/version_0"


@pytest.mark.slow
def test_joined_then_exported_and_read_by_transformers(polycom, sharded, tmp_path, prepared):
    from transformers import AutoModelForCausalLM

    assert (sharded / "checkpoints/step-00000002.ckpt").is_dir()
    joined = polycom("consolidate", sharded)
    assert joined.code == 0, joined.err
    whole = Path(joined.out.split(" -> ")[1].strip())
    assert whole.is_file()
    for source, name in ((whole, "joined"), (sharded, "sharded")):
        exported = polycom("export", source, "--output", tmp_path / name)
        assert exported.code == 0 and "PolycomForCausalLM" in exported.out, exported.err
    files = [tmp_path / name / "model.safetensors" for name in ("joined", "sharded")]
    assert files[0].read_bytes() == files[1].read_bytes()
    imported = tmp_path / "runs/tiny/imported"
    read = polycom("import", tmp_path / "joined", "--output", imported, "--data_folder", prepared)
    assert read.code == 0, read.err

    decoder, _ = load_decoder(sharded)
    biases = [block.feed_forward.router.selection_bias for block in decoder.blocks]
    assert all(bias.abs().max() > 0 for bias in biases)  # training has moved them
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "joined", trust_remote_code=True).eval()
    ids = torch.randint(0, 600, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, decoder(ids), rtol=0, atol=1e-5)

    options = ("--prompt", "def main", "--max_new_tokens", 12, "--temperature", 0)
    texts = [polycom("generate", path, *options) for path in (sharded, whole, imported)]
    assert all(text.code == 0 for text in texts) and len({text.out for text in texts}) == 1
    results = []
    for path in (sharded, imported):
        scored = polycom("evaluate", path, *TASKS, "--output", tmp_path / "results.json")
        assert scored.code == 0, scored.err
        results.append(json.loads((tmp_path / "results.json").read_text())["results"])
    assert results[0] == results[1]
