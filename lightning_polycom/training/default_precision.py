"""The precision of a run whose settings name none."""

import torch

from lightning_polycom.training.processor import bf16_instructions


def default_precision(accelerator: str) -> tuple[str, str]:
    """`bf16-mixed` where the hardware multiplies bf16 matrices itself, else `32-true`; and the reason in words.

    Args:
        accelerator: The Trainer's: auto, cpu, gpu, cuda, or another.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", f"{name} multiplies bf16 matrices"
        return "32-true", f"{name} does not multiply bf16 matrices"
    if accelerator not in ("auto", "cpu"):
        return "32-true", f"the accelerator is {accelerator}"
    if instructions := bf16_instructions():
        return "bf16-mixed", f"the processor has {instructions}"
    return "32-true", "the processor has neither AMX nor AVX512-BF16"
