"""Name -> activation class, for YAML and code alike."""

import difflib
import importlib
import inspect

from lightning_polycom.activations import modules
from lightning_polycom.activations.config import ActivationConfig
from lightning_polycom.errors import InputError

ACTIVATIONS: dict[str, type[modules.Activation]] = {
    "relu": modules.ReLU,
    "relu2": modules.ReLU2,
    "gelu": modules.GELU,
    "silu": modules.SiLU,
    "swiglu": modules.SwiGLU,
    "geglu": modules.GeGLU,
    "polyrelu": modules.PolyReLU,
    "polynorm": modules.PolyNorm,
}


def activation_class(name: str) -> type[modules.Activation]:
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


def build_activation(config: str | ActivationConfig, **options) -> modules.Activation:
    """Builds an activation from a config, or from a name and keyword options.

    Raises:
        InputError: unknown name, an option that the activation does not have, or a value it refuses.
    """
    if isinstance(config, str):
        config = ActivationConfig(config, **options)
    elif options:
        raise InputError("build_activation: give options either in the ActivationConfig or as keywords, not both")
    cls = activation_class(config.name)
    known = set(inspect.signature(cls).parameters)
    for option in config.options:
        if option not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise InputError(f"activation.{option}: '{config.name}' has no such option; {takes}")
    return cls(**config.options)


def _imported_class(path: str) -> type[modules.Activation]:
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        raise InputError(
            f"activation.name: cannot import '{path}' ({error}); put the file on PYTHONPATH or correct the path"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, modules.Activation)):
        raise InputError(
            f"activation.name: '{path}' is no Activation class; "
            "derive it from lightning_polycom.activations.modules.Activation"
        )
    return found
