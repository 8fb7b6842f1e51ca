"""The folder as a whole: what is in it, when it appears, what it replaces."""

import json
import re
from pathlib import Path

import pytest
import torch
from tiny_exports import loaded, tiny, token_ids

from lightning_polycom.errors import InputError
from lightning_polycom.huggingface import export as export_module
from lightning_polycom.huggingface.export import export_checkpoint
from lightning_polycom.huggingface.options import ExportOptions


def test_the_files_of_a_folder(export):
    folder, _ = export(tiny())
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "activations_polycom.py",
        "config.json",
        "configuration_polycom.py",
        "feed_forward_polycom.py",
        "generation_config.json",
        "model.safetensors",
        "modeling_polycom.py",
        "polycom_export.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert folder.joinpath("model.safetensors").stat().st_mode & 0o044


def test_every_name_of_a_checkpoint_and_shards_with_an_index(make_run, tmp_path):
    run, decoder = make_run(tiny(tie_embeddings=True))
    named = (run / "checkpoints/step-00000007.ckpt", run, run / "checkpoints", run.parent)
    for number, path in enumerate(named):
        export_checkpoint(path, tmp_path / str(number), ExportOptions(max_shard_bytes=30_000))
        index = json.loads((tmp_path / str(number) / "model.safetensors.index.json").read_text())
        files = set(index["weight_map"].values())
        assert files == {p.name for p in (tmp_path / str(number)).glob("*.safetensors")} and len(files) > 2
        assert index["metadata"]["total_size"] == 4 * decoder.config.num_parameters
        assert "lm_head.weight" not in index["weight_map"]
    with torch.no_grad():
        found = loaded(tmp_path / "3")(token_ids()).logits
    torch.testing.assert_close(found, decoder(token_ids()), rtol=0, atol=1e-5)


def test_an_earlier_export_is_replaced_and_nothing_else(make_run, tmp_path, monkeypatch):
    run, _ = make_run(tiny())
    output = tmp_path / "exported"
    export_checkpoint(run, output)
    (output / "left_over").write_text("of the earlier export")
    export_checkpoint(run, output, ExportOptions(dtype="bf16"))
    assert not (output / "left_over").exists()
    assert json.loads((output / "config.json").read_text())["dtype"] == "bfloat16"

    def full_disk(*_):
        raise OSError(28, "No space left on device", "model.safetensors")

    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr(export_module, "save_tokenizer", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export_checkpoint(run, output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "trained"]
    for other in ("text", "folder"):
        if other == "text":
            (tmp_path / other).write_text("mine")
        else:
            (tmp_path / other).mkdir()
            (tmp_path / other / "mine").write_text("mine")
        with pytest.raises(InputError, match=f"{other} (exists|is a file)"):
            export_checkpoint(run, tmp_path / other)
    assert (tmp_path / "text").read_text() == (tmp_path / "folder/mine").read_text() == "mine"


def test_an_earlier_export_survives_a_rename_that_fails(make_run, tmp_path, monkeypatch):
    run, _ = make_run(tiny())
    output, rename = tmp_path / "exported", Path.rename
    export_checkpoint(run, output)

    def failing(path, target):
        if path.name.endswith(".building"):
            raise OSError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Permission denied"):
        export_checkpoint(run, output, ExportOptions(dtype="bf16"))
    assert json.loads((output / "config.json").read_text())["dtype"] == "float32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "trained"]


def test_options_are_checked():
    with pytest.raises(InputError, match="max_shard_bytes"):
        ExportOptions(max_shard_bytes=0)
    with pytest.raises(InputError, match="license"):
        ExportOptions(license="a b\nc: d")


def test_the_card_says_what_the_run_recorded(make_run, tmp_path):
    run, decoder = make_run(tiny(num_key_value_heads=2))
    lines = [
        {"step": 3, "val/books/loss": 9.0, "val/web/loss": 5.25, "train/loss": 1.0},
        {"step": 7, "val/books/loss": 4.5, "val/books/bits_per_byte": 1.5, "val/loss": 4.875},
        {"step": 7, "eval/arc_easy/acc": 0.25, "eval/arc_easy/acc_stderr": 0.01, "eval/arc_easy/chance": 0.24},
        {"step": 9, "val/books/loss": 1.0},  # after this checkpoint
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 10, "val')
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "git_commit": "abc123", "command": ["polycom", "/secret"]}))
    path = run / "checkpoints/step-00000007.ckpt"
    data = {"samples": 1000, "sequence_length": 64, "fingerprint": "f1f2f3", "mixture": [[0, {"books": 3, "web": 1}]]}
    torch.save(torch.load(path) | {"TokenDataModule": data}, path)
    export_checkpoint(run, tmp_path / "exported", ExportOptions(license="odc-by"))
    card = (tmp_path / "exported/README.md").read_text()
    for row in (
        f"| parameters | {decoder.config.num_parameters:,} |",
        "| activation | polynorm |",
        "| tokens | 64,000 |",
        "| data fingerprint | f1f2f3 |",
        "| data mixture | books 0.750, web 0.250 |",
        "| books | 4.5000 | 1.5000 | 7 |",
        "| web | 5.2500 |  | 3 |",
        "| mean | 4.8750 |  | 7 |",
        "| arc_easy | acc | 0.2500 | 0.0100 | 0.2400 | 7 |",
        "| commit | abc123 |",
        "license: odc-by",
        "@inproceedings{zhuo2025polynomial",
    ):
        assert row in card.splitlines() or row in card, row
    assert re.search(r"from_pretrained\(\"FOLDER\", trust_remote_code=True\)", card)
    published = "".join(p.read_text() for p in (tmp_path / "exported").iterdir() if p.suffix in (".json", ".md"))
    assert "/secret" not in published and str(tmp_path) not in published


def test_the_code_of_the_card_runs(export, monkeypatch, capsys):
    folder, _ = export(tiny("swiglu"))
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert "trust_remote_code" not in code
    exec(code.replace("FOLDER", str(folder)), {})
    assert capsys.readouterr().out.startswith("Once upon a time")
