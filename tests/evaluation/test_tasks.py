import json
import re
import socket
import time
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager, manager

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import chance_level, load_tasks
from lightning_polycom.evaluation.task_index import STOCK_FOLDERS, index_tasks

SHIPPED = [
    "heldout_continuation",
    "heldout_perplexity_library",
    "heldout_perplexity_tests",
    "heldout_perplexity_reference",
]
OWN_TASK = """
task: own
dataset_path: json
dataset_kwargs:
  data_files: {test: rows.jsonl, train: "rows*.jsonl"}
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: !function prompts.question
doc_to_choice: choices
doc_to_target: answer
tag: own_tag
"""
OWN_GROUP = "group: own_group\ntask:\n  - own\n  - task: own_in_place\n    output_type: loglikelihood_rolling\n" + (
    "    dataset_path: json\n    dataset_kwargs: {data_files: {test: rows.jsonl}}\n    test_split: test\n"
    "    doc_to_text: ''\n    doc_to_target: '{{q}}'\n"
)


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def own(tmp_path):
    """A user's folder of tasks, with a hook in Python, and his data folder."""
    tasks, data = tmp_path / "own_tasks", tmp_path / "own_data"
    tasks.mkdir()
    data.mkdir()
    (tasks / "own.yaml").write_text(OWN_TASK)
    (tasks / "own_group.yaml").write_text(OWN_GROUP)
    (tasks / "prompts.py").write_text("def question(row):\n    return 'Q ' + row['q']\n")
    rows = [{"q": "one", "choices": ["a", "b"], "answer": 0}, {"q": "two", "choices": list("abcd"), "answer": 3}]
    write_jsonl(data / "rows.jsonl", rows)
    return tasks, data


def test_shipped_tasks_read_the_prepared_folder_without_network_or_cache(
    task_folder, data_folder, monkeypatch, capfd, tmp_path
):
    import datasets
    import huggingface_hub

    # An exception alone would not do: datasets swallows those of its download counter.
    attempts = []

    def no_network(*arguments):
        attempts.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    start = time.monotonic()
    loaded = load_tasks(SHIPPED, [str(task_folder)], data_folder)
    assert time.monotonic() - start < 5
    assert list(loaded.tasks) == SHIPPED and loaded.failed == {}
    assert attempts == []
    rows = [json.loads(line) for line in (data_folder / "tasks" / "heldout_continuation.jsonl").open()]
    assert list(loaded.tasks["heldout_continuation"].eval_docs) == rows
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "cache").exists()


def test_a_rewritten_file_is_read_anew_even_with_the_old_time(task_folder, data_folder):
    import os

    path = data_folder / "tasks" / "heldout_perplexity_tests.jsonl"
    first = load_tasks(["heldout_perplexity_tests"], [str(task_folder)], data_folder)
    times = path.stat()
    write_jsonl(path, [{"id": "new", "text": "new"}])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = load_tasks(["heldout_perplexity_tests"], [str(task_folder)], data_folder)
    assert len(first.tasks["heldout_perplexity_tests"].eval_docs) > 1
    assert second.tasks["heldout_perplexity_tests"].eval_docs["text"] == ["new"]


def test_the_working_directory_wins_over_the_data_folder(own, tmp_path, monkeypatch):
    tasks, data = own
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert len(load_tasks(["own"], [str(tasks)], data).tasks["own"].eval_docs) == 2
    write_jsonl(here / "rows.jsonl", [{"q": "here", "choices": ["a", "b"], "answer": 1}])
    loaded = load_tasks(["own"], [str(tasks)], data)
    assert loaded.tasks["own"].eval_docs["q"] == ["here"]
    assert Path.cwd() == here


def test_a_users_task_keeps_its_hooks_globs_group_and_tag(own):
    tasks, data = own
    write_jsonl(data / "rows_more.jsonl", [{"q": "three", "choices": ["a", "b"], "answer": 0}])
    loaded = load_tasks(["own_group"], [str(tasks)], data)
    task = loaded.tasks["own"]
    assert [task.doc_to_text(row) for row in task.eval_docs] == ["Q one", "Q two"]
    assert sorted(task.training_docs()["q"]) == ["one", "three", "two"]
    assert sorted(loaded.tasks) == ["own", "own_group::own_in_place"]
    assert list(load_tasks(["own_tag"], [str(tasks)], data).tasks) == ["own"]
    assert "cache_dir" not in task.config.dataset_kwargs and task.config.dataset_kwargs["data_files"]


def test_number_of_shots_follows_lm_evals_rule(own):
    tasks, data = own
    assert load_tasks(["own"], [str(tasks)], data, num_fewshot=1).tasks["own"].config.num_fewshot == 1
    (tasks / "own.yaml").write_text(OWN_TASK + "num_fewshot: 0\n")
    assert load_tasks(["own"], [str(tasks)], data, num_fewshot=1).tasks["own"].config.num_fewshot == 0


def test_chance_is_the_mean_over_documents(own, task_folder, data_folder):
    tasks, data = own
    loaded = load_tasks(["own"], [str(tasks)], data)
    assert chance_level(loaded.tasks["own"]) == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert loaded.chance() == {"own": pytest.approx(0.375)}
    assert loaded.chance(limit=1) == {"own": 0.5}
    loaded = load_tasks(SHIPPED, [str(task_folder)], data_folder)
    assert loaded.chance() == {"heldout_continuation": 0.25}
    assert chance_level(loaded.tasks["heldout_perplexity_tests"]) is None


def test_a_missing_or_empty_data_file_is_reported_with_its_remedy_and_the_others_load(task_folder, data_folder):
    path = data_folder / "tasks" / "heldout_continuation.jsonl"
    path.write_text("")
    for state in ("is empty", "not found"):
        loaded = load_tasks(["heldout_continuation", "heldout_perplexity_tests"], [str(task_folder)], data_folder)
        assert re.search(
            rf"heldout_continuation\.jsonl {state}.*polycom prepare", loaded.failed["heldout_continuation"]
        )
        assert list(loaded.tasks) == ["heldout_perplexity_tests"]
        path.unlink(missing_ok=True)


def test_a_broken_data_file_is_reported_and_the_others_load(task_folder, data_folder):
    (data_folder / "tasks" / "heldout_perplexity_library.jsonl").write_text('{"id": "a", "text": "unfinished')
    loaded = load_tasks(SHIPPED, [str(task_folder)], data_folder)
    assert list(loaded.failed) == ["heldout_perplexity_library"]
    assert "\n" not in loaded.failed["heldout_perplexity_library"]
    assert len(loaded.tasks) == 3


def test_an_unreachable_stock_task_is_reported_and_the_others_load(task_folder, data_folder):
    loaded = load_tasks(["arc_easy", "piqa", "heldout_continuation"], [str(task_folder)], data_folder)
    assert list(loaded.entries) == ["heldout_continuation"]
    assert list(loaded.failed) == ["arc_easy", "piqa"]
    assert "an earlier download failed" in loaded.failed["piqa"]
    assert "ai2_arc" in loaded.failed["arc_easy"] and "\n" not in loaded.failed["arc_easy"]


def test_an_unknown_name_is_refused_with_near_matches(task_folder, monkeypatch):
    # A small part stands for lm-eval's complete index, which takes many seconds to build.
    monkeypatch.setattr(manager, "__file__", str(Path(manager.__file__).parent / "arc" / "manager.py"))
    with pytest.raises(InputError, match="arc_eazy, heldout_continuaton not found") as error:
        load_tasks(["heldout_continuaton", "arc_eazy"], [str(task_folder)])
    for word in ("heldout_continuation", "arc_easy", str(task_folder)):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_other_mistakes_are_refused(own, tmp_path):
    tasks, data = own
    with pytest.raises(InputError, match="at least one task"):
        load_tasks([])
    with pytest.raises(InputError, match="nowhere is not a folder"):
        load_tasks(["own"], [str(tmp_path / "nowhere")], data)
    with pytest.raises(InputError, match="own is asked for twice, by own and by own_group"):
        load_tasks(["own", "own_group"], [str(tasks)], data)


@pytest.mark.parametrize("name", [*STOCK_FOLDERS, "mmlu_stem", "mmlu_abstract_algebra"])
def test_known_stock_tasks_need_no_complete_index(name, monkeypatch):
    complete = []
    build = TaskManager.__init__

    def watched(self, *arguments, include_defaults=True, **keywords):
        complete.append(include_defaults)
        build(self, *arguments, include_defaults=include_defaults, **keywords)

    monkeypatch.setattr(TaskManager, "__init__", watched)
    assert name in index_tasks([name], []).all_tasks
    assert not any(complete)
