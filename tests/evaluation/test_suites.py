"""The paper's two suites on local copies of their data."""

import gzip
import json

import pytest
import yaml
from tiny_language_model import SharedTokenizer, TinyDecoder

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import DecoderLM, load_tasks, require_metrics, run_evaluation, scalars


def suite(name, task_folder):
    return yaml.safe_load((task_folder.parents[1] / f"configs/evaluation/{name}.yaml").read_text())["evaluation"]


@pytest.fixture
def offline(shared, tmp_path):
    """Overlays under lm-eval's own tasks and under mmlu_var, as docs/evaluation.md has them."""
    data, members = (
        shared / "lm_eval",
        [{"group": "mmlu_var", "dataset_kwargs": {"folder": str(shared / "lm_eval/mmlu")}}],
    )
    splits = {"arc_easy": "test", "arc_challenge": "test", "openbookqa": "test"}
    for task in ("hellaswag", "sciq", "arc_challenge", "arc_easy", "piqa", "winogrande", "openbookqa", "copa"):
        split = splits.get(task, "validation")
        member = {"task": task, "dataset_path": "json", "dataset_name": None, "training_split": None}
        file = str(data / task / f"{split}.jsonl.gz")
        member["dataset_kwargs"] = {"data_files": {split: file} | ({"validation": file} if split == "test" else {})}
        members.append(member | ({"test_split": None} if task == "sciq" else {}))
    (tmp_path / "nine.yaml").write_text(yaml.safe_dump({"group": "nine_offline", "task": members}))
    return str(tmp_path)


@pytest.mark.slow
def test_the_nine_tasks_run_offline_and_average_as_the_paper_does(shared, offline, task_folder):
    settings = suite("moe_nine", task_folder)
    tokenizer = SharedTokenizer(shared)
    loaded = load_tasks(["nine_offline"], [str(task_folder), offline])
    assert loaded.failed == {}
    assert sorted(settings["tasks"]) == sorted(
        [*(name for name in loaded.tasks if not name.startswith("mmlu_var_")), "mmlu_var"]
    )
    lm = DecoderLM(TinyDecoder(tokenizer.vocab_size, 512), tokenizer)
    results = run_evaluation(lm, loaded, limit=14, metrics=settings["metrics"])
    values, plain = scalars(results), results["results"]
    parts = [plain[f"mmlu_var_{part}"]["acc_norm,none"] for part in ("stem", "humanities", "social_sciences", "other")]
    assert len(set(parts)) > 1
    assert plain["mmlu_var"]["acc_norm,none"] == pytest.approx(sum(parts) / 4)
    others = {
        "hellaswag": "acc_norm", "sciq": "acc", "arc_challenge": "acc_norm", "arc_easy": "acc", "piqa": "acc_norm",
        "winogrande": "acc", "openbookqa": "acc_norm", "copa": "acc",
    }  # fmt: skip
    chosen = [sum(parts) / 4, *(plain[task][f"{metric},none"] for task, metric in others.items())]
    assert values["eval/average"] == pytest.approx(sum(chosen) / 9)
    assert results["polycom"]["metrics"] == settings["metrics"]


def test_mmlu_var_asks_each_validation_question_with_seven_prompts(shared, offline, task_folder):
    loaded = load_tasks(["nine_offline"], [str(task_folder), offline])
    task = loaded.tasks["mmlu_var_humanities"]
    rows = list(task.eval_docs)
    questions = sum(
        gzip.decompress(path.read_bytes()).count(b"\n") for path in shared.glob("lm_eval/mmlu/*/validation.jsonl.gz")
    )
    counted = [
        len(loaded.tasks[f"mmlu_var_{part}"].eval_docs) for part in ("stem", "humanities", "social_sciences", "other")
    ]
    assert sum(counted) == 7 * questions == 7 * 1531
    with gzip.open(shared / "lm_eval/mmlu/formal_logic/dev.jsonl.gz", "rt") as file:
        examples = [json.loads(line) for line in file]
    prompts = [task.doc_to_text(row) for row in rows[:7]]
    assert prompts[0].startswith("Question: ") and prompts[0].endswith("\nAnswer:")
    title = "The following are multiple choice questions (with answers) about formal logic:\n\n"
    assert prompts[1] == title + prompts[0]
    for shots in range(1, 6):
        assert prompts[1 + shots].count("Question: ") == shots + 1
        answer = examples[shots - 1]["choices"][examples[shots - 1]["answer"]]
        assert prompts[1 + shots].endswith(f"\nAnswer: {answer}\n\n{prompts[0]}")
    # The answers' texts are scored, not letters.
    assert task.doc_to_choice(rows[0]) == rows[0]["choices"] and len(rows[0]["choices"][0]) > 1


def test_the_six_tasks_have_their_metrics(shared, task_folder):
    settings = suite("dense_six", task_folder)
    loaded = load_tasks(["polycom_six_offline"], [str(shared / "lm_eval" / "tasks_offline")])
    assert sorted(loaded.tasks) == sorted(settings["tasks"]) == sorted(settings["metrics"])
    require_metrics(loaded, settings["metrics"])


def test_a_metric_has_to_exist(task_folder, data_folder):
    loaded = load_tasks(["heldout_continuation", "heldout_perplexity_library"], [str(task_folder)], data_folder)
    with pytest.raises(InputError, match=r"heldout_continuation has no metric 'acc_nrm'; it reports acc, acc_norm$"):
        require_metrics(loaded, {"heldout_continuation": "acc_nrm"})
    with pytest.raises(InputError, match=r"arc_easy is not among the tasks .*heldout_perplexity_library"):
        require_metrics(loaded, {"arc_easy": "acc"})
    require_metrics(loaded, {"heldout_perplexity_library": "bits_per_byte"})


def test_an_average_that_lacks_a_task_is_none(task_folder, data_folder, tokenizer):
    loaded = load_tasks(["heldout_continuation", "arc_easy"], [str(task_folder)], data_folder)
    chosen = {"heldout_continuation": "acc", "arc_easy": "acc"}
    lm = DecoderLM(TinyDecoder(257, 48), tokenizer)
    assert "eval/average" not in scalars(run_evaluation(lm, loaded, limit=2, metrics=chosen))
    assert "eval/average" in scalars(run_evaluation(lm, loaded, limit=2, metrics={"heldout_continuation": "acc"}))
