"""validate, evaluate and generate on the checkpoint of a finished run."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def finished(polycom, tiny_config, tmp_path) -> Path:
    options = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
    outcome = polycom("fit", "--config", tiny_config, *options)
    assert outcome.code == 0, outcome.err
    return tmp_path / "runs/tiny/version_0"


def test_evaluate_gives_the_callbacks_numbers(polycom, finished, tmp_path):
    for step in (4, 8):
        name, output = f"step-{step:08d}", tmp_path / f"again-{step}.json"
        outcome = polycom("evaluate", finished / f"checkpoints/{name}.ckpt", "--output", output)
        assert outcome.code == 0, outcome.err
        again, before = (json.loads(p.read_text())["results"] for p in (output, finished / f"evals/{name}.json"))
        assert again == before
    assert "heldout_continuation" in outcome.out and "0.250" in outcome.out


def test_validate_gives_the_runs_losses(polycom, finished, tiny_config):
    outcome = polycom("validate", "--config", tiny_config, "--ckpt_path", finished)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    loss = [line["val/code/loss"] for line in lines if "val/code/loss" in line][-1]
    assert f"{loss:.3f}" in outcome.out


def test_generate_continues_the_prompt(polycom, finished):
    outcome = polycom("generate", finished.parent, "--prompt", "def main", "--max_new_tokens", 12)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("def main") and len(outcome.out) > len("def main\n")
    again = polycom("generate", finished.parent, "--prompt", "def main", "--max_new_tokens", 12)
    assert again.out == outcome.out
    both = polycom("generate", finished.parent, "--prompt", "def main", "[1, 2", "--max_new_tokens", 12)
    assert both.code == 0, both.err
    assert both.out.startswith(outcome.out.rstrip("\n")) and "\n\n[1, 2" in both.out


def test_texts_of_a_tokenizer_with_a_beginning_token_begin_with_it(
    polycom, tiny_config, prepared, tmp_path, monkeypatch
):
    from lightning_polycom.checkpoints import load_decoder
    from lightning_polycom.commands import generate
    from lightning_polycom.data.preparation import PrepareConfig, prepare
    from lightning_polycom.evaluation import DecoderLM

    tokens = json.loads((prepared / "tokenizer.json").read_text())
    begin = {"id": 599, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    vocabulary = {token: id for token, id in tokens["model"]["vocab"].items() if id != 599}
    last = next(token for token, id in tokens["model"]["vocab"].items() if id == 599)
    tokens["model"]["merges"] = [pair for pair in tokens["model"]["merges"] if "".join(pair).replace(" ", "") != last]
    tokens["model"]["vocab"] = vocabulary | {"<s>": 599}
    tokens["added_tokens"].append({**begin, "special": True})
    (tmp_path / "begin.json").write_text(json.dumps(tokens))
    text = "\n".join(json.dumps({"id": str(i), "text": f"def f{i}(x):\n    return x + {i}\n" * 40}) for i in range(40))
    (tmp_path / "code.jsonl").write_text(text + "\n")
    config = PrepareConfig(
        sources=[f"code={tmp_path / 'code'}.jsonl"], tokenizer=str(tmp_path / "begin.json"), bos_token="<s>",
        validation_fraction=0.2, questions_per_domain=4,
    )  # fmt: skip
    prepare(config, tmp_path / "shards")
    options = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
    outcome = polycom("fit", "--config", tiny_config, "--data.folder", tmp_path / "shards", *options)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs/tiny/version_0"
    results = json.loads((run / "evals/step-00000008.json").read_text())
    assert results["config"]["add_bos_token"] is True
    assert polycom("evaluate", run).code == 0
    again = json.loads((run / "evals/step-00000008.evaluate.json").read_text())
    assert again["results"] == results["results"] and again["config"]["add_bos_token"] is True
    decoder, tokenizer = load_decoder(run)
    assert tokenizer.bos_token_id == 599
    lm = DecoderLM(decoder, tokenizer, bos_token_id=tokenizer.bos_token_id)
    assert lm.tok_encode("x")[0] == 599 and lm.prefix_token_id == 599
    prompts = []
    monkeypatch.setattr(generate, "generate", lambda decoder, ids, *rest, **options: prompts.extend(ids) or iter(()))
    list(generate.continued(str(run), ["", "def"], generate.GenerateOptions()))
    assert prompts == [[599], [599, *tokenizer.encode("def")]]


def test_runs_without_a_record_of_the_beginning_token_load(finished):
    from lightning_polycom.checkpoints import load_decoder

    record = json.loads((finished / "run.json").read_text())
    assert record["tokenizer"].pop("bos_token") is None
    (finished / "run.json").write_text(json.dumps(record))
    assert load_decoder(finished)[1].bos_token_id is None
