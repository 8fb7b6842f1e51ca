"""Which runs belong together: refused, marked or taken."""

import json

import pytest
from synthetic_runs import write_comparison, write_run

from lightning_polycom.comparison.arms import DIVERGED, MISMATCHED, check_arms
from lightning_polycom.comparison.gathering import gather
from lightning_polycom.errors import InputError


def arms_of(*paths, baseline=None, equal="parameters", seeds=None):
    return check_arms(gather(list(map(str, paths))).runs, baseline, equal, seeds)


def pair(tmp_path, **settings):
    """A run of swiglu, and one of relu with other settings."""
    return write_run(tmp_path / "swiglu_1/v0", "swiglu", 1, 4.0), write_run(
        tmp_path / "relu_1/v0", "relu", 1, 4.1, **settings
    )


def test_an_arm_is_the_name_of_a_run_without_its_seed(tmp_path):
    paths = [
        write_run(tmp_path / "wide_1/v0", "swiglu", 1, 4.0),
        write_run(tmp_path / "wide-seed2/v0", "swiglu", 2, 4.0),
        write_run(tmp_path / "narrow/v0", "swiglu", 1, 4.1),
        write_run(tmp_path / "narrow/v1", "swiglu", 2, 4.1),
    ]
    arms = arms_of(*paths[:2], tmp_path / "narrow")
    assert {name: [run.seed for run in runs] for name, runs in arms.runs.items()} == {"wide": [1, 2], "narrow": [1, 2]}
    assert arms.baseline == "wide"
    assert list(arms_of(*paths, baseline="narrow").runs) == ["narrow", "wide"]
    named = arms_of(f"a={paths[0]}", f"b={paths[2]}")
    assert list(named.runs) == ["a", "b"]


def test_runs_of_one_name_are_told_apart_by_their_activation(tmp_path):
    for number, activation in enumerate(("gelu", "polynorm")):
        write_run(tmp_path / "trial" / f"version_{number}", activation, 1, 4.0)
    assert list(arms_of(tmp_path / "trial").runs) == ["gelu", "polynorm"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"record": {"data_fingerprint": "0" * 64}}, "data: .* has ffffffffffff..., .* has 000000000000..."),
        ({"steps": 50}, "training tokens: .* has 100,000, .* has 50,000; train them for as many"),
        ({"config": {"data": {"seed": 1, "sequence_length": 100, "max_validation_tokens": 9}}}, "validation tokens: "),
        ({"status": "stopped"}, None),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, settings, message):
    paths = pair(tmp_path, **settings)
    if message is None:
        assert arms_of(*paths).usable("relu") == []
        return
    with pytest.raises(InputError, match=message):
        arms_of(*paths)


def test_other_numbers_of_tokens_are_right_where_flops_or_time_are_equal(tmp_path):
    paths = pair(tmp_path, steps=50)
    for equal in ("flops", "time"):
        assert arms_of(*paths, equal=equal).equal == equal


def test_what_the_user_names_wrongly(tmp_path):
    paths = pair(tmp_path)
    for keywords, message in (
        ({"baseline": "gelu"}, "baseline: 'gelu' is not among the arms .swiglu, relu."),
        ({"equal": "luck"}, "equal: found 'luck'"),
        ({"seeds": [1, 5]}, "seeds: no run has seed 5; the runs have .1."),
    ):
        with pytest.raises(InputError, match=message):
            arms_of(*paths, **keywords)
    with pytest.raises(InputError, match="all are of one arm, swiglu"):
        arms_of(paths[0])
    with pytest.raises(InputError, match="are both arm swiglu, seed 1"):
        arms_of(*paths, paths[0])
    for path, found in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no run")):
        with pytest.raises(InputError, match=found):
            gather([str(path)])


def test_a_missing_seed_is_refused_until_seeds_are_chosen(tmp_path):
    paths = [*pair(tmp_path), write_run(tmp_path / "relu_2/v0", "relu", 2, 4.1)]
    with pytest.raises(InputError, match=r"seeds: swiglu has no run of seed 2, which relu has; .*--seeds .1."):
        arms_of(*paths)
    assert len(arms_of(*paths, seeds=[1]).usable("relu")) == 1
    write_run(tmp_path / "bare/v0", "relu", 1, 4.0, config={"seed_everything": True})
    with pytest.raises(InputError, match="has seed_everything: True"):
        gather([str(tmp_path / "bare/v0")])


def test_without_a_finished_run_there_is_nothing_to_report(tmp_path):
    one = write_run(tmp_path / "a/v0", "a", 1, 4.0, status="running")
    two = write_run(tmp_path / "b/v0", "b", 1, 4.0, status="KeyboardInterrupt")
    with pytest.raises(InputError, match=r"none of 2 is finished .KeyboardInterrupt, running."):
        arms_of(one, two)
    three = write_run(tmp_path / "c/v0", "c", 1, 4.0)
    with pytest.raises(InputError, match=r"baseline: no run of a is finished .running."):
        arms_of(one, three)


def test_runs_that_saw_other_batches_are_marked_and_left_out(tmp_path):
    stream = {"50": "aa", "100": "bb"}
    base = write_run(tmp_path / "a/v0", "a", 1, 4.0, record={"token_stream": stream})
    same = write_run(tmp_path / "b/v0", "b", 1, 4.0, record={"token_stream": stream})
    other = write_run(tmp_path / "c/v0", "c", 1, 4.0, record={"token_stream": {**stream, "100": "cc"}})
    order = {"data": {"seed": 9, "sequence_length": 100, "max_validation_tokens": 1024}}
    shuffled = write_run(tmp_path / "d/v0", "d", 1, 4.0, config=order)
    arms = arms_of(base, same, other, shuffled)
    assert [len(arms.usable(name)) for name in "abcd"] == [1, 1, 0, 0]
    assert {arms.runs[name][0].status for name in "cd"} == {MISMATCHED}
    assert "at step 100" in arms.runs["c"][0].marks[0]
    assert "order seed" in arms.runs["d"][0].marks[0]


def test_diverged_and_resumed_runs_are_marked(tmp_path):
    paths = pair(tmp_path)
    lines = (paths[1] / "metrics.jsonl").read_text().splitlines()
    bad = {"step": 100, "time": 1_790_000_101, "val/loss": None, "val/a/loss": None, "val/b/loss": None}
    (paths[1] / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(bad)]) + '\n{"step": 1')  # and a torn line
    resumed = write_run(tmp_path / "gelu_1/v0", "gelu", 1, 4.0, record={"started": "2027-01-01T00:00:00+0000"})
    arms = arms_of(*paths, resumed)
    assert arms.runs["relu"][0].status == DIVERGED
    assert arms.runs["gelu"][0].marks == ("resumed",) and arms.runs["gelu"][0].is_usable
    assert arms.runs["swiglu"][0].marks == ()


def test_all_runs_need_the_same_loss(tmp_path):
    paths = pair(tmp_path)
    rows = [json.loads(line) for line in (paths[1] / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith("val/")} for row in rows]
    (paths[1] / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert arms_of(*paths).measure == "train/loss"
    (paths[1] / "metrics.jsonl").write_text('{"step": 100, "time": 1, "progress/tokens": 100000}\n')
    with pytest.raises(InputError, match=r"relu_1/v0 has no val/loss, .* has no train/loss"):
        arms_of(*paths)


def test_a_comparison_names_its_runs(tmp_path):
    folder = write_comparison(tmp_path / "cmp", {"a": [4.0, 4.1], "b": [3.9, 4.0]}, "b")
    content = json.loads((folder / "comparison.json").read_text())
    content["arms"][0] |= {"status": "failed", "error": "saw other batches"}
    content["arms"].append({"name": "a", "seed": 3, "learning_rate": 0.1, "run": "a/seed_3", "status": "pending"})
    content["arms"].append({"name": "b", "seed": 3, "learning_rate": None, "run": "b/seed_3", "status": "pending"})
    (folder / "comparison.json").write_text(json.dumps(content))
    gathered = gather([str(folder)])
    assert (gathered.name, gathered.baseline, gathered.equal) == ("cmp", "b", "parameters")
    arms = check_arms(gathered.runs, gathered.baseline, gathered.equal)
    assert [run.status for run in arms.runs["a"]] == ["failed", "finished", "pending"]
    assert arms.runs["a"][0].marks == ("saw other batches",)
    assert [run.status for run in arms.runs["b"]] == ["finished", "finished", "pending"]
    assert arms.runs["b"][0].learning_rate == 0.003  # from the run where the comparison has none


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": 3}, "has baseline: 3"),
        ({"arms": {}}, "has no list of arms"),
        ({"arms": [{"name": "a"}]}, "has an arm with seed: None"),
        (
            {"arms": [{"name": "a", "seed": 1, "run": "gone", "status": "finished"}]},
            "gone as finished, which is not there",
        ),
        (
            {"arms": [{"name": "a", "seed": 5, "run": "a/seed_1", "status": "finished"}]},
            "whose config.yaml has 1",
        ),
    ],
)
def test_a_damaged_comparison_is_refused(tmp_path, change, message):
    folder = write_comparison(tmp_path / "cmp", {"a": [4.0], "b": [3.9]}, "b")
    path = folder / "comparison.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as caught:
        gather([str(folder)])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", "{", "run.json is no JSON"),
        ("run.json", "{}", "has no tokens_per_step"),
        ("config.yaml", "a: [", "config.yaml cannot be read"),
        ("config.yaml", "text", "config.yaml holds no settings"),
        ("metrics.jsonl", "oops\n", "metrics.jsonl, line 1: is no JSON"),
        ("metrics.jsonl", '{"step": "two"}\n', "line 1: step is 'two'"),
        ("probes/analysis-step-00000100.json", '{"step": 1, "layer_similarity": [[1]], "effective_rank": [2]}', "form"),
        ("evals/step-00000100.evaluate.json", '{"results": 3}', "is no result of lm-eval"),
    ],
)
def test_a_damaged_run_is_refused(tmp_path, file, text, message):
    run = write_run(tmp_path / "a/v0", "a", 1, 4.0)
    record = json.loads((run / "run.json").read_text())
    if message == "has no tokens_per_step":
        text = json.dumps({key: value for key, value in record.items() if key != "tokens_per_step"})
        lines = (run / "metrics.jsonl").read_text().replace("progress/tokens", "other")
        (run / "metrics.jsonl").write_text(lines)
    (run / file).parent.mkdir(exist_ok=True)
    (run / file).write_text(text)
    with pytest.raises(InputError) as caught:
        gather([str(run)])
    assert message in str(caught.value) and "\n" not in str(caught.value)
