"""What counts as a lack of memory."""

import pytest
import torch

from lightning_polycom.benchmarking.step_benchmark import is_out_of_memory


def test_a_tensor_that_no_memory_holds_is_out_of_memory():
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**60, dtype=torch.int8)
    assert is_out_of_memory(found.value) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_other_errors_are_bugs():
    with pytest.raises(RuntimeError) as found:
        torch.zeros(2) + torch.zeros(3)
    assert not is_out_of_memory(found.value)
