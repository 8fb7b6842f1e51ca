"""Compiles every Triton kernel for a Hopper GPU that need not be there; prints what ptxas reports, as JSON lines.

A process of its own, because Triton's interpreter, which the other tests use, cannot be switched off again.
"""

import json
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lightning_polycom.activations.kernels.triton_elementwise import elementwise_backward, elementwise_forward
from lightning_polycom.activations.kernels.triton_launch import divide_row
from lightning_polycom.activations.kernels.triton_normalised import normalised_backward, normalised_forward

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
KERNELS = {
    ("normalised", "forward"): normalised_forward,
    ("normalised", "backward"): normalised_backward,
    ("elementwise", "forward"): elementwise_forward,
    ("elementwise", "backward"): elementwise_backward,
}
ALIGNED = [["tt.divisibility", 16]]


def types(kernel, constants: dict, dtype: str) -> tuple[dict, dict]:
    """The kernel's argument types, and which are multiples of 16, as a launch on fresh tensors finds them."""
    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in ("x", "up", "y", "grad", "dx", "dup"):
            signature[name] = f"*{dtype}"
        elif name == "eps":
            signature[name] = "fp32"
        elif name.endswith("_stride") or name == "num_experts":
            signature[name] = "i32"
        else:
            signature[name] = "*i32" if name == "experts" else "*fp32"
        if signature[name].startswith("*") or name.endswith("_stride"):
            attributes[(index,)] = ALIGNED
    return signature, attributes


def report(kind: str, direction: str, width: int, dtype: str, **variant) -> dict:
    """Registers, spilled bytes and resident programs of one kernel."""
    kernel = KERNELS[kind, direction]
    division = divide_row(width, 1 if direction == "forward" else 2 + variant["GATED"])
    constants = {"WIDTH": width, "BLOCK": division.block, "KEEP": division.keep, "PER_EXPERT": False, "HAS_BIAS": True}
    constants |= variant
    signature, attributes = types(kernel, constants, dtype)
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": division.num_warps}
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [PTXAS, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = int(re.search(r"Used (\d+) registers", said)[1])
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", said))
    programs = min(65536 // (registers * 32 * division.num_warps), 64 // division.num_warps)
    loads = re.findall(r"ld\.global\S*?\.(v\d\.)?b(\d+)", ptx)
    widest = max(int(bits) * int((vector or "v1.")[1]) for vector, bits in loads)
    return {
        "kernel": f"{kind} {direction}", "width": width, "dtype": dtype, **variant, "registers": registers,
        "spilled": spilled, "programs": programs, "kib_in_flight": programs * width * 2 / 1024, "load_bits": widest,
    }  # fmt: skip


def main() -> None:
    """Reports the members' kernels at the widths and orders given as two comma-separated lists."""
    widths, orders = ([int(n) for n in argument.split(",")] for argument in sys.argv[1:3])
    for (kind, direction), width, order, gated in product(KERNELS, widths, orders, (False, True)):
        base = "identity" if kind == "normalised" else "relu"
        print(json.dumps(report(kind, direction, width, "bf16", ORDER=order, BASE=base, GATED=gated)))


if __name__ == "__main__":
    main()
