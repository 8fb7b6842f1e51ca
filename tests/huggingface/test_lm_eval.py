"""lm-eval's own `hf` backend on an exported folder gives the numbers of `polycom evaluate` on the checkpoint."""

import json
from pathlib import Path

import pytest
from tiny_exports import sparse, tiny

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.checkpoints import load_decoder
from lightning_polycom.evaluation import DecoderLM, load_tasks
from lightning_polycom.huggingface.export import export_checkpoint

TASKS = Path(__file__).parents[2] / "data" / "tasks"
NAMES = ["heldout_continuation", "heldout_perplexity_prose"]


@pytest.fixture
def tasks(tmp_path) -> Path:
    """The shipped tasks, and one of the domain of the tests' text."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "continuation.yaml").write_text((TASKS / "heldout_continuation.yaml").read_text())
    text = (TASKS / "heldout_perplexity_library.yaml").read_text()
    (folder / "prose.yaml").write_text(text.replace("library", "prose"))
    return folder


def stock_lm(folder: Path):
    """lm-eval's backend, as `--model hf --model_args pretrained=FOLDER,trust_remote_code=True` builds it."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), trust_remote_code=True, device="cpu", batch_size=8)


def requests(kind: str, arguments: list[tuple]) -> list:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=args, idx=i, metadata=("made_up", i, 1))
        for i, args in enumerate(arguments)
    ]


@pytest.mark.parametrize(
    ("config", "bos_token"),
    [
        (tiny(qk_norm="head", tie_embeddings=True), None),
        (tiny("swiglu", num_key_value_heads=2), None),
        (tiny("swiglu"), "!"),
        (sparse(ActivationConfig("polynorm", scope="expert"), selection_bias=True, shared_intermediate_size=24), None),
        (sparse("swiglu"), None),
    ],
)
def test_every_kind_of_request(make_run, tmp_path, config, bos_token):
    run, _ = make_run(config)
    record = json.loads((run / "run.json").read_text())
    record["tokenizer"]["bos_token"] = bos_token
    (run / "run.json").write_text(json.dumps(record))
    export_checkpoint(run, tmp_path / "exported")
    decoder, tokenizer = load_decoder(run)
    theirs = stock_lm(tmp_path / "exported")
    ours = DecoderLM(decoder, tokenizer, bos_token_id=tokenizer.bos_token_id)
    assert theirs.tok_encode("a text") == ours.tok_encode("a text")
    assert theirs.max_length == ours.max_length and theirs.prefix_token_id == ours.prefix_token_id
    text = "The quick brown fox <|endoftext|> jumps over the lazy dog, again and again. "
    pairs = [("Question: 1 + 1\nAnswer:", " 2"), ("", "Once upon"), (text * 3, " a long context"), ("x ", " y")]
    for (found, greedy), (expected, our_greedy) in zip(
        theirs.loglikelihood(requests("loglikelihood", pairs)),
        ours.loglikelihood(requests("loglikelihood", pairs)),
        strict=True,
    ):
        assert found == pytest.approx(expected, abs=1e-4) and greedy == our_greedy
    rolling = requests("loglikelihood_rolling", [(text,), (text * 4,)])
    expected = pytest.approx(ours.loglikelihood_rolling(rolling), rel=1e-5)
    assert theirs.loglikelihood_rolling(rolling) == expected
    prompts = [(text, {"until": ["\n"], "max_gen_toks": 12}), ("def", {"until": [], "max_gen_toks": 20})]
    written = theirs.generate_until(requests("generate_until", prompts))
    assert written == ours.generate_until(requests("generate_until", prompts))
    assert all(written)


@pytest.mark.parametrize("config", [tiny(), sparse("polynorm")], ids=["dense", "sparse"])
def test_polycom_evaluate_on_the_checkpoint(polycom, make_run, tmp_path, prepared, tasks, config):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    run, _ = make_run(config)
    evaluated = polycom("evaluate", run, "--tasks", json.dumps(NAMES), "--include_path", json.dumps([str(tasks)]))
    assert evaluated.code == 0, evaluated.err
    ours = json.loads((run / "evals/step-00000007.evaluate.json").read_text())["results"]
    exported = polycom("export", run, "--output", tmp_path / "exported")
    assert exported.code == 0 and "PolycomForCausalLM" in exported.out, exported.err
    loaded = load_tasks(NAMES, [str(tasks)], prepared)
    found = simple_evaluate(
        model=stock_lm(tmp_path / "exported"),
        tasks=[item for entry in loaded.entries.values() for item in entry],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    assert found["results"].keys() == ours.keys() == set(NAMES)
    accuracy = [found["results"][NAMES[0]][metric] for metric in ("acc,none", "acc_norm,none")]
    assert accuracy == [ours[NAMES[0]][metric] for metric in ("acc,none", "acc_norm,none")]
    bits = found["results"][NAMES[1]]["bits_per_byte,none"]
    assert bits == pytest.approx(ours[NAMES[1]]["bits_per_byte,none"], rel=1e-5)
    # The card of a later export says what `evaluate` found.
    assert polycom("export", run, "--output", tmp_path / "exported").code == 0
    assert f"| {NAMES[1]} | bits_per_byte | {bits:.4f} |" in (tmp_path / "exported/README.md").read_text()


def test_real_questions(make_run, tmp_path, shared):
    from lm_eval.api.instance import Instance

    run, _ = make_run(tiny("polyrelu"))
    export_checkpoint(run, tmp_path / "exported")
    loaded = load_tasks(["polycom_six_offline"], [str(shared / "lm_eval" / "tasks_offline")])
    instances: list[Instance] = []
    for name in ("arc_easy", "sciq"):
        task = loaded.tasks[name]
        task.build_all_requests(limit=6)
        instances += [item for item in task.instances if len(item.args[0]) < 400]
    assert len(instances) > 20
    ours = DecoderLM(*load_decoder(run)).loglikelihood(instances)
    theirs = stock_lm(tmp_path / "exported").loglikelihood(instances)
    for (found, greedy), (expected, our_greedy) in zip(theirs, ours, strict=True):
        assert found == pytest.approx(expected, abs=1e-4) and greedy == our_greedy
