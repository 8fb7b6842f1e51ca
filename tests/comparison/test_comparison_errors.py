"""Mistakes in a comparison's file: one line, exit code 2, nothing written."""

import pytest

ONE = {"model.decoder.activation.name": "relu"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"baseline": "gelu"}, "baseline: no arm is called 'gelu'; choose one of relu, polynorm"),
        ({"baseline": None}, "baseline"),
        ({"seeds": []}, "seeds: empty"),
        ({"seeds": None}, "seeds"),
        ({"seeds": [1, 1]}, "seeds: [1, 1] names one twice"),
        ({"seeds": [-1]}, "seeds"),
        ({"arms": {"relu": ONE}}, "arms: found 1; name two or more"),
        ({"arms": {"relu": ONE, "../x": ONE}}, "'../x'"),
        ({"arms": {"relu": ONE, "b": {"model.decoder.activatio.name": "x"}}}, "arms.b: no such key"),
        ({"arms": {"relu": ONE, "b": {"model.decoder.activation.name": "rel"}}}, "arms.b: activation.name: unknown"),
        ({"arms": {"relu": ONE, "b": {"data.seed": 3}}}, "arms.b: 'data.seed' may not be set here: seeds are given"),
        ({"arms": {"relu": ONE, "b": {"data": {"folder": "x"}}}}, "arms.b: 'data.folder' may not be set here"),
        ({"arms": {"relu": ONE, "b": {"trainer.max_steps": 3}}}, "arms.b: 'trainer.max_steps' may not be set here"),
        ({"arms": {"relu": ONE, "b": {"model.decoder.num_layers": 3}}}, "arms.b: "),
        ({"base": "no.yaml"}, "no file no.yaml"),
        ({"equal": "weight"}, "equal"),
        ({"tolerance": -1}, "tolerance: found -1"),
        ({"learning_rates": [0.0]}, "learning_rates"),
        ({"overrides": {"model.seed": 1}}, "overrides: 'model.seed' may not be set here"),
        ({"overrides": {"model.initial_weight": 1}}, "arms.relu: no such key"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_one_line(polycom, comparison, tmp_path, changes, expected):
    outcome = polycom("compare", comparison(**changes))
    assert outcome.code == 2, outcome.out
    assert len(outcome.err.splitlines()) == 1 and expected in outcome.err, outcome.err
    assert not (tmp_path / "runs").exists()


def test_no_file_and_a_damaged_record(polycom, comparison, tmp_path):
    assert "name a comparison's file" in polycom("compare").err
    assert "no file nothing.yaml" in polycom("compare", "nothing.yaml").err
    folder = tmp_path / "runs/tiny_arms"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text('{"arms": [{"nam": 1}]}')
    outcome = polycom("compare", comparison())
    assert outcome.code == 2 and "is damaged" in outcome.err and len(outcome.err.splitlines()) == 1


def test_slurm_without_submitit_names_the_extra(polycom, comparison, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "submitit", None)
    outcome = polycom("compare", comparison(), "--launcher", "slurm")
    assert outcome.code == 2 and "lightning-polycom[slurm]" in outcome.err and len(outcome.err.splitlines()) == 1
