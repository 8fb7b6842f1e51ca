"""Name -> activation class, for YAML and code alike."""

import difflib
import importlib
import inspect

from lightning_polycom.activations.config import ActivationConfig
from lightning_polycom.activations.modules.base import Activation
from lightning_polycom.activations.modules.gated import GeGLU, ReGLU, SwiGLU
from lightning_polycom.activations.modules.plain import GELU, XIELU, ReLU, ReLU2, SiLU
from lightning_polycom.activations.modules.polynorm import PolyNorm, PolyNormGLU, PolyReLUNorm
from lightning_polycom.activations.modules.polyrelu import PolyPReLU, PolyReLU, PolyReLUGLU
from lightning_polycom.errors import InputError

ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": ReLU,
    "relu2": ReLU2,
    "gelu": GELU,
    "silu": SiLU,
    "xielu": XIELU,
    "swiglu": SwiGLU,
    "geglu": GeGLU,
    "reglu": ReGLU,
    "polyrelu": PolyReLU,
    "polynorm": PolyNorm,
    "polyprelu": PolyPReLU,
    "polyrelunorm": PolyReLUNorm,
    "polynorm_glu": PolyNormGLU,
    "polyrelu_glu": PolyReLUGLU,
}


def activation_class(name: str) -> type[Activation]:
    """The class behind a registered name or an import path.

    Raises:
        InputError: the name is not registered (near matches are listed), or the import path leads to no Activation.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if "." in name:
        return _imported_class(name)
    near = difflib.get_close_matches(name, ACTIVATIONS, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"activation.name: unknown activation '{name}'; {hint}known: {', '.join(ACTIVATIONS)}")


def build_activation(
    config: str | ActivationConfig, *, width: int | None = None, num_experts: int | None = None, **options
) -> Activation:
    """Builds an activation from a config, or from a name and keyword options.

    `width`, the number of channels, and `num_experts`, of the mixture that shares the module, go to the activations
    that ask for them; coefficients per channel and per expert need them.

    Raises:
        InputError: unknown name, an option that the activation does not have, or a value it refuses.
    """
    if isinstance(config, str):
        config = ActivationConfig(config, **options)
    elif options:
        raise InputError("build_activation: give options either in the ActivationConfig or as keywords, not both")
    cls = activation_class(config.name)
    known, given = _parameters(cls), {"width": width, "num_experts": num_experts}
    sizes = {name: size for name, size in given.items() if name in known}
    known -= sizes.keys()
    for option in config.options:
        if option not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise InputError(f"activation.{option}: '{config.name}' has no such option; {takes}")
    try:
        inspect.signature(cls).bind(**config.options, **sizes)
    except TypeError as error:
        raise InputError(
            f"activation: cannot build '{config.name}': {error}; give it a default or an option"
        ) from error
    return cls(**config.options, **sizes)


def _parameters(cls: type[Activation]) -> set[str]:
    """Names of the keyword arguments of a class, those that it passes on to its base classes included."""
    names: set[str] = set()
    for ancestor in cls.__mro__:
        if "__init__" not in vars(ancestor):
            continue
        parameters = inspect.signature(ancestor.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}


def _imported_class(path: str) -> type[Activation]:
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except (ImportError, ValueError, TypeError) as error:
        raise InputError(
            f"activation.name: cannot import '{path}' ({error}); put the file on PYTHONPATH or correct the path"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, Activation) and found is not Activation):
        raise InputError(
            f"activation.name: '{path}' is no Activation class; derive it from lightning_polycom.activations.Activation"
        )
    return found
