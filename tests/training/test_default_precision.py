"""bf16 where the hardware multiplies it, fp32 elsewhere."""

import pytest
import torch

from lightning_polycom.training import default_precision as module
from lightning_polycom.training.default_precision import default_precision


@pytest.mark.parametrize(
    ("accelerator", "instructions", "expected"),
    [
        ("cpu", "AMX", ("bf16-mixed", "the processor has AMX")),
        ("auto", "AVX512-BF16", ("bf16-mixed", "the processor has AVX512-BF16")),
        ("cpu", None, ("32-true", "the processor has neither AMX nor AVX512-BF16")),
        ("mps", "AMX", ("32-true", "the accelerator is mps")),
    ],
)
def test_a_processor_decides_where_there_is_no_gpu(monkeypatch, accelerator, instructions, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "bf16_instructions", lambda: instructions)
    assert default_precision(accelerator) == expected


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda", "cpu"])
@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_decides_where_it_is_used(monkeypatch, accelerator, supported):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    monkeypatch.setattr(module, "bf16_instructions", lambda: None)
    precision, reason = default_precision(accelerator)
    assert precision == ("bf16-mixed" if supported and accelerator != "cpu" else "32-true")
    assert reason.startswith("the processor" if accelerator == "cpu" else "Some GPU")
