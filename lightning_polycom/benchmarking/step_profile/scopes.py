"""Names for the parts of a step, left in the trace by torch's `record_function` while it runs in the Trainer."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from lightning.pytorch.profilers import Profiler
from torch import nn
from torch.profiler import record_function

from lightning_polycom.activations import Activation
from lightning_polycom.model import Decoder
from lightning_polycom.model.attention import Attention
from lightning_polycom.model.mixture_of_experts.layer import MixtureOfExperts
from lightning_polycom.model.normalization import RMSNorm

PART = "part:"  # begins the name of a scope that is a part of the step
ACTIVATION, ATTENTION, NORMS, ROUTING = "activation", "attention", "norms and RoPE", "routing"
LOSS, OPTIMIZER = "loss", "optimizer"
MODULES = {Activation: ACTIVATION, RMSNorm: NORMS, Attention: ATTENTION, MixtureOfExperts: ROUTING}
INSIDE_BLOCKS = {"lightning_polycom.model.attention.rotate": NORMS}
FUNCTIONS = {
    "lightning_polycom.model.decoder.rotary_table": NORMS,
    "lightning_polycom.model.linear_cross_entropy.linear_cross_entropy": LOSS,
    "lightning_polycom.training.module.LanguageModel.configure_gradient_clipping": OPTIMIZER,
}


class ScopeProfiler(Profiler):
    """Leaves Lightning's own names of what it does in the trace: hooks, callbacks, the wait for a batch."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, record_function]] = []

    def start(self, action_name: str) -> None:
        """Opens a scope."""
        scope = record_function(action_name)
        scope.__enter__()
        self._open.append((action_name, scope))

    def stop(self, action_name: str) -> None:
        """Closes it; scopes lie in each other."""
        if self._open and self._open[-1][0] == action_name:
            self._open.pop()[1].__exit__(None, None, None)


@contextmanager
def named_functions(compiled: bool) -> Iterator[None]:
    """Inside, the loss, clipping and RoPE have scopes, but none in compiled blocks, which it would cut."""
    with ExitStack() as stack:
        for target, part in (FUNCTIONS if compiled else FUNCTIONS | INSIDE_BLOCKS).items():
            stack.enter_context(_patched(target, part))
        yield


def name_modules(decoder: Decoder) -> None:
    """Gives the decoder's modules scopes around their forward passes; for eager runs."""
    for module in decoder.modules():
        for kind, part in MODULES.items():
            if isinstance(module, kind):
                _name(module, part)


def _name(module: nn.Module, part: str) -> None:
    opened: list[record_function] = []

    def enter(*_: Any) -> None:
        opened.append(record_function(PART + part))
        opened[-1].__enter__()

    def leave(*_: Any) -> None:
        opened.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _patched(target: str, part: str) -> Any:
    """A patch of the function with one that runs it in a scope."""
    import pkgutil

    function: Callable = pkgutil.resolve_name(target)

    def scoped(*args: Any, **kwargs: Any) -> Any:
        with record_function(PART + part):
            return function(*args, **kwargs)

    return patch(target, scoped)
