"""Real passes of small decoders, against what numpy makes of the same values."""

import numpy as np
import pytest
import torch
from counting_backend import CountingBackend
from small_decoders import Text, batch, decoder

from lightning_polycom.analysis import probe_windows
from lightning_polycom.analysis.probe import analyze_text, analyze_weights
from lightning_polycom.analysis.probe_windows import ProbeWindows
from lightning_polycom.training.activation_checkpointing import checkpoint_activations
from lightning_polycom.training.compilation import compile_blocks


@pytest.fixture
def windows(monkeypatch) -> ProbeWindows:
    monkeypatch.setattr(probe_windows, "BATCH_TOKENS", 64)
    return ProbeWindows({"one": Text(500), "two": Text(90, 1)}, 16, 200)


def hooks(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize(
    ("activation", "sparse", "power"),
    [
        ("polynorm", False, 3),
        ("swiglu", False, 1),
        ("relu2", True, 2),
        ("polyrelu", True, 3),
        ("polynorm_glu", True, 3),
    ],
)
def test_numbers_are_those_of_the_decoders_own_values(windows, activation, sparse, power):
    model = decoder(activation, sparse)
    seen = {"input": [], "up": [], "output": []}

    def note(module, inputs, output):
        for place, value in zip(("input", "up", "output"), (inputs[0], inputs[-1], output), strict=True):
            seen[place].append(value.detach().double().flatten())

    found = analyze_text(model, windows, "fp32")
    handle = model.blocks[1].feed_forward.activation.register_forward_hook(note)
    with torch.no_grad():
        texts = [windows.read(number).input_ids for number in range(len(windows))]
        for ids in texts:
            model(ids)
        handle.remove()
        states = [by_hand(model, ids) for ids in texts]
    assert found["num_tokens"] == windows.num_tokens
    entry = found["activation_statistics"][1]
    gated = model.config.is_gated
    assert list(entry) == ["layer", "input", "output", *(["up"] if gated else [])] and entry["layer"] == 1
    for place in ("input", "output", *(["up"] if gated else [])):
        x = torch.cat(seen[place]).numpy()
        assert entry[place]["count"] == x.size
        assert entry[place]["zero_fraction"] == pytest.approx((x == 0).mean())
        assert entry[place]["kurtosis"] == pytest.approx(np.mean((x - x.mean()) ** 4) / x.var() ** 2, rel=1e-5)
        largest = entry[place]["max_abs"]
        assert largest == pytest.approx(np.abs(x).max(), rel=1e-5)
        used = np.log2(largest) * (power if place == "input" else 1)
        headroom = entry[place]["overflow_headroom_bits"]
        assert headroom["float16"] == pytest.approx(np.log2(65504) - used)
        assert headroom["bfloat16"] == pytest.approx(np.log2(torch.finfo(torch.bfloat16).max) - used)
    unit = torch.nn.functional.normalize(torch.cat(states, dim=1).double(), dim=-1)
    expected = torch.einsum("itd,jtd->ij", unit, unit) / unit.shape[1]
    torch.testing.assert_close(torch.tensor(found["layer_similarity"]).double(), expected, atol=1e-6, rtol=0)


def by_hand(model, ids: torch.Tensor) -> torch.Tensor:
    """(layers + 1, tokens, hidden_size): decoders with fewer and fewer blocks, read before the last norm."""
    states, blocks = [], model.blocks
    for count in range(len(blocks) + 1):
        model.blocks, norm, model.norm = blocks[:count], model.norm, torch.nn.Identity()
        states.append(model.hidden_states(ids)[0].flatten(0, 1))
        model.blocks, model.norm = blocks, norm
    return torch.stack(states)


def test_a_decoder_is_left_as_it_was(windows):
    model = decoder(sparse=True)
    model.train()
    model.blocks[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        analyze_text(model, windows, "fp32", track=interrupted)
    analyze_text(model, windows, "bf16")
    analyze_weights(model)
    assert hooks(model) == 0
    assert model.training and not model.blocks[1].training and model.blocks[2].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def interrupted(steps):
    yield next(iter(steps))
    raise KeyboardInterrupt


def test_compiled_blocks_are_not_compiled_again_and_train_alike(windows):
    def losses(probed: bool) -> tuple[list[float], int]:
        model, backend = decoder("polynorm"), CountingBackend()
        checkpoint_activations(model, "full")
        compile_blocks(model, backend)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        found = []
        for _ in range(3):
            loss = model(batch()).logsumexp(-1).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
            if probed:
                analyze_text(model, windows, "fp32")
        return found, backend.graphs

    assert losses(True) == losses(False)


def test_experts_have_mean_and_spread():
    model = decoder("polyrelu", sparse=True)
    found = analyze_weights(model)
    own = torch.tensor(found["effective_rank_per_expert"]["up"])
    assert own.shape == (3, 4)
    assert found["effective_rank"]["up"] == pytest.approx(own.mean(1).tolist(), rel=1e-6)
    assert found["effective_rank_spread"]["up"] == pytest.approx(own.std(1, correction=0).tolist(), rel=1e-4)
    assert found["coefficients"][0]["coefficient_3"] == pytest.approx(1 / 3)
    assert "effective_rank_per_expert" not in analyze_weights(decoder("swiglu"))
