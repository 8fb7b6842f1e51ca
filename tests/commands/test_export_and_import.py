"""`polycom export` and `polycom import` as they are typed."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def trained(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--model.decoder.tie_embeddings", "true").code == 0
    return tmp_path / "runs/tiny/version_0"


def test_a_run_goes_out_and_comes_back(polycom, trained, tiny_config, prepared, tmp_path):
    written = polycom("export", trained, "--output", tmp_path / "hf", "--license", "mit")
    assert written.code == 0, written.err
    assert "from_pretrained" in written.out and "trust_remote_code=True" in written.out
    card = (tmp_path / "hf/README.md").read_text()
    for row in (
        "| optimizer steps | 8 |",
        "| tokens | 2,048 |",
        "license: mit",
        "| code | ",
        "| prose | ",
        "| mean | ",
    ):
        assert row in card
    imported = tmp_path / "runs/tiny/imported"
    read = polycom("import", tmp_path / "hf", "--output", imported, "--data_folder", prepared)
    assert read.code == 0, read.err
    options = ("--prompt", "def main", "--max_new_tokens", 12)
    again, before = (polycom("generate", path, *options) for path in (imported, trained))
    assert again.code == 0 and again.out == before.out
    results = []
    for path in (imported, trained):
        tasks = ("--tasks", '["heldout_continuation"]', "--include_path", '["data/tasks"]')
        scored = polycom("evaluate", path, *tasks, "--output", tmp_path / "results.json")
        assert scored.code == 0, scored.err
        results.append(json.loads((tmp_path / "results.json").read_text())["results"])
    assert results[0] == results[1]
    resumed = polycom("fit", "--config", tiny_config, "--ckpt_path", imported)
    assert resumed.code == 2 and "training cannot go on from it" in resumed.err


def test_mistakes_end_with_one_line(polycom, trained, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    for arguments in (
        ("export", trained),
        ("export", trained, "--output", tmp_path / "full"),
        ("export", tmp_path / "nothing", "--output", tmp_path / "hf"),
        ("export", trained, "--output", tmp_path / "hf", "--dtype", "fp8"),
        ("export", trained, "--output", tmp_path / "hf", "--max_shard_bytes", 0),
        ("import", tmp_path / "full", "--output", tmp_path / "run"),
        ("import", tmp_path / "nothing", "--output", tmp_path / "run"),
    ):
        outcome = polycom(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("polycom: error: ") and outcome.err.count("\n") == 1
    assert not (tmp_path / "hf").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_needs_no_torch(command):
    code = (
        f"import sys; sys.argv = ['polycom', '{command}', '--help']\n"
        "from lightning_polycom.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'lm_eval', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert "--output" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_export_needs_no_transformers(trained, tmp_path):
    arguments = ["polycom", "export", str(trained), "--output", str(tmp_path / "hf")]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from lightning_polycom.cli import main\n"
        "main()\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (tmp_path / "hf/model.safetensors").is_file()
