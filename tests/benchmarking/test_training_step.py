"""What is measured side by side trains the same thing, and what is printed follows from the turns."""

import math
import sys
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
import torch

from lightning_polycom.benchmarking.training_step import bare_loop, fit_run
from lightning_polycom.benchmarking.training_step.contenders import Case, build
from lightning_polycom.benchmarking.training_step.meter import Meter, Turn
from lightning_polycom.benchmarking.training_step.report import arm_lines, contender_lines
from lightning_polycom.benchmarking.training_step.side_by_side import Measured, _order, measure
from lightning_polycom.errors import InputError

IDS = torch.arange(32).view(2, 16)


@pytest.mark.parametrize("contender", ["bare", "plain", "transformers"])
def test_contenders_have_the_same_parameters_and_the_loss_of_a_fresh_decoder(contender):
    case = Case(contender, "tiny")
    model, loss = build(case)
    config = case.training_shape.decoder_config("swiglu")
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters
    step = bare_loop.training_step(case.precision, model, loss)
    first = step(IDS, IDS + 1).item()
    assert first == pytest.approx(math.log(config.vocab_size), abs=0.3)
    assert step(IDS, IDS + 1).item() < first


def test_the_plain_decoder_is_causal():
    model, _ = build(Case("plain", "tiny"))
    labels, changed = torch.full_like(IDS, -100), IDS.clone()
    labels[:, :8], changed[:, 8:] = IDS[:, :8] + 1, 0
    assert model(IDS, labels).item() == model(changed, labels).item()


def test_litgpt_is_said_to_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "litgpt.config", None)
    with pytest.raises(InputError, match="--peers FOLDER"):
        build(Case("litgpt", "tiny"))


def test_a_meter_answers_with_what_it_was_asked_for():
    ours, theirs = Pipe()
    meter = Meter(theirs, torch.device("cpu"))
    ours.send(3)
    assert meter.wait() == 3
    meter.answer(torch.tensor(1.5))
    turn = ours.recv()
    assert (turn.steps, turn.loss) == (3, 1.5)
    assert turn.seconds > 0 and turn.cpu_seconds >= 0 and turn.peak_bytes >= 0


def test_fit_trains_as_the_bare_loop_does(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    losses = {}
    for name, run in (("fit", lambda c, m: fit_run.run_fit(c, prepared, m, tmp_path)), ("bare", _run_bare(prepared))):
        losses[name] = []
        orders = iter([1, 1, 2, 0])
        meter = SimpleNamespace(
            wait=orders.__next__,
            answer=lambda loss, to=losses[name]: to.append(float(loss)),
            device=torch.device("cpu"),
        )
        run(Case(name, "tiny"), meter)
    assert losses["fit"] == losses["bare"] and len(losses["fit"]) == 3


def _run_bare(prepared):
    return lambda case, meter: bare_loop.run_bare_loop(case, prepared, meter)


def measured(names: list[str], seconds: dict[str, list[float]], peak: int = 2**20) -> Measured:
    found = Measured({name: Case("fit", "tiny") for name in names})
    for name in names:
        found.turns[name] = [Turn(10, s, 2 * s, peak) for s in seconds[name]]
        found.first_losses[name] = 6.5
    return found


def test_ratios_are_medians_over_rounds_and_goals_follow():
    seconds = {"fit": [1.0, 2.0, 1.0], "bare": [0.995, 1.0, 0.995], "plain": [0.9, 2.2, 1.1]}
    found = measured(list(seconds), seconds)
    assert found.tokens_per_second("fit") == (320, 320)
    assert found.time_ratio("plain", "fit").median == pytest.approx(1.1)
    assert found.extra_milliseconds("fit", "bare").median == pytest.approx(0.5)
    text = "\n".join(contender_lines(found))
    assert "1.100 (1.000 to 1.100)" in text and "; met: at least 1" in text
    assert "0.500" in text and "; met: at most 1 ms" in text
    seconds["bare"], seconds["plain"] = [0.9] * 3, [0.9] * 3
    text = "\n".join(contender_lines(measured(list(seconds), seconds)))
    assert "NOT met: at least 1" in text and "NOT met: at most 1 ms" in text


def test_arms_are_held_against_the_first():
    found = measured(["swiglu", "polynorm", "authors"], {"swiglu": [1, 1], "polynorm": [1.02, 1.02], "authors": [3, 3]})
    lines = list(arm_lines(found))
    assert "1.020" in lines[2] and "; met: at most 1.03" in lines[2] and "memory 1.00" in lines[2]
    assert "3.000" in lines[3] and "met" not in lines[3]


def test_every_contender_is_first_equally_often():
    rounds = [list(_order(["a", "b", "c"], number)) for number in range(6)]
    assert (
        sorted(order[0] for order in rounds) == sorted(order[-1] for order in rounds) == ["a", "a", "b", "b", "c", "c"]
    )
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)


@pytest.mark.slow
def test_contenders_take_turns_in_processes_of_their_own(prepared):
    cases = {name: Case(name, "tiny", threads=1) for name in ("fit", "bare")}
    found = measure(cases, prepared, rounds=2, steps=2, say=lambda _: None)
    assert found.first_losses["fit"] == found.first_losses["bare"]
    for name in cases:
        assert [turn.steps for turn in found.turns[name]] == [2, 2]
    record = found.record()
    assert record["fit"]["case"]["contender"] == "fit" and len(record["bare"]["turns"]) == 2


@pytest.mark.slow
def test_a_contender_that_cannot_start_says_why(prepared):
    case = Case("bare", "tiny", activation="nonsense", threads=1)
    with pytest.raises(InputError, match=r"a contender has ended: .*nonsense"):
        measure({"bare": case}, prepared, rounds=1, steps=1, say=lambda _: None)
