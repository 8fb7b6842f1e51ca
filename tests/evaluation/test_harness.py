import json
import random

import numpy
import pytest
import torch
from tiny_language_model import SharedTokenizer, TinyDecoder, plain_log_likelihood

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import (
    DecoderLM,
    LoadedTasks,
    load_tasks,
    quiet,
    run_evaluation,
    scalars,
)

NAMES = ["heldout_continuation", "heldout_perplexity_library"]


@pytest.fixture
def loaded(task_folder, data_folder):
    return load_tasks(NAMES, [str(task_folder)], data_folder)


def test_local_tasks_give_lm_evals_numbers(loaded, decoder, tokenizer):
    results = run_evaluation(DecoderLM(decoder, tokenizer), loaded)
    continuation = loaded.tasks["heldout_continuation"]
    correct = []
    for row in continuation.eval_docs:
        stripped = row["context"].rstrip()
        moved = row["context"][len(stripped) :]
        scores = [
            plain_log_likelihood(decoder, tokenizer.encode(stripped), tokenizer.encode(moved + choice), 48)[0]
            for choice in row["choices"]
        ]
        correct.append(scores.index(max(scores)) == row["answer"])
    assert 0 < sum(correct) < len(correct)
    metrics = results["results"]["heldout_continuation"]
    assert metrics["acc,none"] == pytest.approx(sum(correct) / len(correct))
    share = sum(correct) / len(correct)
    assert metrics["acc_stderr,none"] == pytest.approx((share * (1 - share) / (len(correct) - 1)) ** 0.5)
    assert results["polycom"] == {
        "chance": {"heldout_continuation": 0.25},
        "failed": {},
        "metrics": {},
        "incomplete": [],
    }
    rolling = results["results"]["heldout_perplexity_library"]
    assert rolling["byte_perplexity,none"] == pytest.approx(2 ** rolling["bits_per_byte,none"])
    assert results["config"]["max_length"] == 48 and results["config"]["add_bos_token"] is False
    assert json.loads(json.dumps(results)) == results


def test_scores_repeat_and_the_program_is_left_alone(
    task_folder, data_folder, decoder, tokenizer, capfd, monkeypatch, tmp_path
):
    # Outside a git repository, where lm-eval's question for the commit prints an error.
    monkeypatch.chdir(tmp_path)
    quiet.git_commit.cache_clear()
    lm = DecoderLM(decoder, tokenizer)
    random.seed(1)
    numpy.random.seed(2)
    torch.manual_seed(3)
    before = (random.getstate(), numpy.random.get_state()[1].copy(), torch.random.get_rng_state())
    loaded = load_tasks(NAMES, [str(task_folder)], data_folder)
    first = run_evaluation(lm, loaded)
    second = run_evaluation(lm, loaded)
    assert first["results"] == second["results"]
    assert random.getstate() == before[0]
    assert (numpy.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert capfd.readouterr() == ("", "")
    torch.nn.init.normal_(decoder.head.weight)
    assert run_evaluation(lm, loaded)["results"] != first["results"]


def test_limit_and_seed(loaded, decoder, tokenizer):
    results = run_evaluation(DecoderLM(decoder, tokenizer), loaded, limit=3, seed=5)
    assert results["n-samples"]["heldout_continuation"]["effective"] == 3
    assert results["config"]["fewshot_seed"] == 5
    with pytest.raises(InputError, match="limit: 0 is not"):
        run_evaluation(DecoderLM(decoder, tokenizer), loaded, limit=0)


def test_an_overflowing_perplexity_does_not_stop_the_evaluation(loaded, decoder, tokenizer):
    with torch.no_grad():
        decoder.head.weight.mul_(1e4)
    results = run_evaluation(DecoderLM(decoder, tokenizer), loaded)
    assert results["results"]["heldout_perplexity_library"]["word_perplexity,none"] == float("inf")
    assert "eval/heldout_perplexity_library/word_perplexity" not in scalars(results)
    assert scalars(results)["eval/heldout_perplexity_library/bits_per_byte"] > 100


def test_a_task_that_does_not_fit_the_window_is_reported_and_the_others_run(task_folder, data_folder, tokenizer):
    (data_folder / "own.yaml").write_text("group: both\ntask: [heldout_continuation, heldout_perplexity_library]\n")
    loaded = load_tasks(["both", "heldout_perplexity_tests"], [str(task_folder), str(data_folder)], data_folder)
    lm = DecoderLM(TinyDecoder(257, 9), tokenizer)
    with pytest.warns(UserWarning, match="heldout_continuation is left out"):
        results = run_evaluation(lm, loaded)
    reason = "an answer of 10 tokens exceeds the decoder's window of 9; drop the task or raise max_sequence_length"
    assert results["polycom"] == {
        "chance": {},
        "failed": {"heldout_continuation": reason},
        "metrics": {},
        "incomplete": ["both"],
    }
    assert sorted(loaded.tasks) == ["heldout_perplexity_library", "heldout_perplexity_tests"]
    assert results["results"].keys() == {"both", *loaded.tasks}
    assert run_evaluation(lm, loaded)["results"] == results["results"]


def test_nothing_loaded_is_an_empty_result(decoder, tokenizer):
    results = run_evaluation(DecoderLM(decoder, tokenizer), LoadedTasks(failed={"piqa": "ConnectionError: no"}))
    assert results["results"] == {} and results["polycom"]["failed"] == {"piqa": "ConnectionError: no"}
    assert scalars(results) == {}


def test_arc_easy_equals_a_computation_by_hand(shared):
    tokenizer = SharedTokenizer(shared)
    decoder = TinyDecoder(tokenizer.vocab_size, window := 64)
    loaded = load_tasks(["polycom_six_offline"], [str(shared / "lm_eval" / "tasks_offline")])
    assert list(loaded.tasks) == ["arc_easy", "arc_challenge", "hellaswag", "piqa", "sciq", "winogrande"]
    with pytest.warns(UserWarning, match="piqa is left out"):
        results = run_evaluation(DecoderLM(decoder, tokenizer), loaded, limit=20)
    metrics = results["results"]
    assert list(results["polycom"]["failed"]) == ["piqa"]
    correct, correct_normalised = [], []
    for row in list(loaded.tasks["arc_easy"].eval_docs)[:20]:
        context = tokenizer.encode(f"Question: {row['question']}\nAnswer:")
        sums = []
        for choice in row["choices"]["text"]:
            whole = tokenizer.encode(f"Question: {row['question']}\nAnswer: {choice}")
            sums.append(plain_log_likelihood(decoder, context, whole[len(context) :], window)[0])
        normalised = [s / len(text) for s, text in zip(sums, row["choices"]["text"], strict=True)]
        answer = row["choices"]["label"].index(row["answerKey"])
        correct.append(sums.index(max(sums)) == answer)
        correct_normalised.append(normalised.index(max(normalised)) == answer)
    assert metrics["arc_easy"]["acc,none"] == pytest.approx(sum(correct) / 20)
    assert metrics["arc_easy"]["acc_norm,none"] == pytest.approx(sum(correct_normalised) / 20)
    assert correct != correct_normalised and 0 < sum(correct) < 20
    choices = [len(row["choices"]["text"]) for row in list(loaded.tasks["arc_easy"].eval_docs)[:20]]
    assert results["polycom"]["chance"]["arc_easy"] == pytest.approx(sum(1 / n for n in choices) / 20)
    assert results["polycom"]["chance"]["winogrande"] == 0.5
