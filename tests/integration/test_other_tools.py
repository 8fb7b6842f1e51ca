"""Whole runs on shards that other tools wrote, in place, from YAML."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_polycom.data import open_shards

ROOT = Path(__file__).parents[2]


def values(run: Path) -> dict[str, float]:
    """The last value of every tag."""
    found: dict[str, float] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        found |= json.loads(line)
    return found


def overlay(path: Path, **data: object) -> Path:
    path.write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
    return path


@pytest.fixture
def every_tool(shared, tmp_path) -> Path:
    """A YAML file that trains on one domain of each tool and validates on two."""
    shards = shared / "token_shards"
    return overlay(
        tmp_path / "tools.yaml",
        folder=None,
        train={
            "dolma": f"{shards}/olmo_npy/*.npy",
            "megatron": f"{shards}/megatron/wiki_text_document",
            "llmc": [f"{shards}/llmc_bin/wiki_train_000000.bin", f"{shards}/llmc_bin/wiki_train_000001.bin"],
            "nanogpt": f"{shards}/nanogpt_bin/train.bin",
            "litdata": f"{shards}/litdata",
        },
        validation={"wiki": f"{shards}/nanogpt_bin/val.bin", "llmc": f"{shards}/llmc_bin"},
        tokenizer=f"{shared}/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json",
        dtype={"nanogpt": "uint16", "wiki": "uint16"},
    )


SMALL = ("--model.decoder.vocab_size", 50_280, "--trainer.max_steps", 4, "--data.max_validation_tokens", 256)


@pytest.mark.slow
def test_every_tools_shards_train_validate_evaluate_and_generate(polycom, tiny_config, every_tool, tmp_path, shared):
    weights = '{"dolma": 3, "megatron": 1, "llmc": 2, "nanogpt": 1, "litdata": 1}'
    settings = (*SMALL, "--data.mixture", weights, "--data.separate_documents", "true")
    config = ("--config", tiny_config, "--config", every_tool)
    plan = polycom("fit", *config, *settings, "--dry_run")
    assert plan.code == 0 and "validation" in plan.out and "wiki 38,765" in plan.out, plan.err
    outcome = polycom("fit", *config, *settings)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs/tiny/version_0"
    last = values(run)
    assert 0 < last["val/wiki/bits_per_byte"] < 10 and last["progress/epochs/litdata"] > 0
    # The same text, with one leading token more and one trailing less.
    bytes_per_token = {name: last[f"val/{name}/loss"] / last[f"val/{name}/bits_per_byte"] for name in ("wiki", "llmc")}
    assert bytes_per_token["wiki"] == pytest.approx(bytes_per_token["llmc"], rel=1e-9)
    original = shared / "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
    assert (run / "tokenizer.json").read_bytes() == original.read_bytes()
    record = json.loads((run / "run.json").read_text())
    assert record["data_folder"] is None and record["tokenizer"]["eos_token"] == "<|endoftext|>"
    assert [d["domain"] for d in record["data_domains"] if d["split"] == "train"] == sorted(json.loads(weights))
    assert polycom("generate", run, "--prompt", "The", "--max_new_tokens", 3).code == 0
    tasks = ("--tasks", "polycom_six_offline", "--limit", 1, "--include_path", shared / "lm_eval/tasks_offline")
    outcome = polycom("evaluate", run, *tasks)
    assert outcome.code == 0 and "arc_easy" in outcome.out, outcome.err
    outcome = polycom("fit", *config, *settings, "--ckpt_path", run, "--trainer.max_steps", 6)
    assert outcome.code == 0, outcome.err
    assert polycom("validate", *config, *SMALL, "--ckpt_path", run).code == 0
    nothing = ("--data.validation", "null", "--data.dtype", '{"nanogpt": "uint16"}')
    refused = polycom("validate", *config, *SMALL, "--ckpt_path", run, *nothing)
    assert refused.code == 2 and "data.validation: empty" in refused.err and refused.err.count("\n") == 1
    refused = polycom("fit", *config, "--data.prepare.vocab_size", 600, *SMALL)
    assert refused.code == 2 and "data.prepare: needs data.folder" in refused.err and refused.err.count("\n") == 1
    refused = polycom("fit", *config, "--data.separate_documents", "true", *SMALL)
    assert refused.code == 2 and "give data.mixture" in refused.err and refused.err.count("\n") == 1


def test_raw_copies_of_a_prepared_folder_have_its_losses(polycom, tiny_config, prepared, tmp_path):
    named = {}
    for split, domain in [("train", "code"), ("validation", "code"), ("validation", "prose")]:
        shards = open_shards(prepared, split, domain)
        shards.read(0, shards.num_tokens).tofile(tmp_path / f"{split}-{domain}.bin")
        named.setdefault(split, {})[domain] = str(tmp_path / f"{split}-{domain}.bin")
    raw = overlay(
        tmp_path / "raw.yaml", folder=None, **named, tokenizer=str(prepared / "tokenizer.json"), dtype="uint16"
    )
    still = ("--model.optimizer.learning_rate", 0, "--trainer.max_steps", 4)
    for version, more in {"native": (), "raw": ("--config", raw)}.items():
        assert polycom("fit", "--config", tiny_config, *more, *still, "--run.version", version).code == 0
    native, other = (values(tmp_path / "runs/tiny" / version) for version in ("native", "raw"))
    tags = [tag for tag in native if tag.startswith("val/")]
    assert len(tags) == 7
    assert {tag: other[tag] for tag in tags} == {tag: native[tag] for tag in tags}


@pytest.mark.long
def test_validation_is_identical_on_one_and_two_processes(polycom, tiny_config, prepared, shared, tmp_path):
    """Named validation domains beside a native training folder, reduced over ranks without a last-digit difference."""
    raw = open_shards(prepared, "validation")
    raw.read(0, raw.num_tokens).tofile(tmp_path / "all.bin")
    beside = overlay(
        tmp_path / "beside.yaml", validation={"all": str(tmp_path / "all.bin")}, dtype="uint16",
        micro_batch_size=2, max_validation_tokens=None,
    )  # fmt: skip
    still = ("--model.optimizer.learning_rate", "0", "--trainer.max_steps", "4")
    for version, devices in {"one": "1", "two": "2"}.items():
        strategy = () if devices == "1" else ("--trainer.strategy", "ddp")
        command = [
            sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config, "--config", beside, *still,
            "--trainer.devices", devices, *strategy, "--run.version", version,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        found = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False
        )
        assert found.returncode == 0, found.stderr[-3000:]
    one, two = (values(tmp_path / "runs/tiny" / version) for version in ("one", "two"))
    tags = [tag for tag in one if tag.startswith("val/")]
    assert {tag.split("/")[1] for tag in tags} == {"code", "prose", "all", "loss"}
    assert {tag: two[tag] for tag in tags} == {tag: one[tag] for tag in tags}
