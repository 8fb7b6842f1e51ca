"""A folder as Hugging Face's libraries write it for one tokenizer."""

from pathlib import Path
from typing import Any

from lightning_polycom.data.tokenizer_formats.added_tokens import add_tokens
from lightning_polycom.data.tokenizer_formats.byte_level import read_vocab_and_merges
from lightning_polycom.data.tokenizer_formats.file import FoundTokenizer, read_file
from lightning_polycom.errors import InputError
from lightning_polycom.json_object import read_json_object

_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
FILES = ("tokenizer.json", "tokenizer.model", *(file for pair in _PAIRS for file in pair), *_SETTINGS)
"""Every file of a folder that is read."""

_BYTE_LEVEL_CLASSES = ("GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer", "PreTrainedTokenizer")
"""Classes, also with `Fast` behind, whose vocabulary and merges are used as GPT-2 uses them."""


def holds_tokenizer(folder: Path) -> bool:
    """Whether the folder has a tokenizer's files."""
    return _base(folder) is not None


def read_folder(folder: Path) -> FoundTokenizer:
    """The tokenizer of a folder: its tokenizer.json, else vocabulary and merges, else its tokenizer.model.

    Raises:
        InputError: no tokenizer there, a file that is malformed, or a kind that cannot be converted.
    """
    base = _base(folder)
    if base is None:
        pairs = ", ".join(" with ".join(pair) for pair in _PAIRS)
        raise InputError(f"tokenizer: {folder} has no tokenizer; it needs tokenizer.json, tokenizer.model, or {pairs}")
    config, names, added = (_read_object(folder / file) for file in _SETTINGS)
    eos_token = _content(config.get("eos_token")) or _content(names.get("eos_token"))
    if len(base) == 1:
        found = read_file(folder / base[0])
    else:
        _check_class(folder, config)
        specification = read_vocab_and_merges(*(folder / file for file in base))
        if isinstance(config.get("add_prefix_space"), bool):
            specification["pre_tokenizer"]["add_prefix_space"] = config["add_prefix_space"]
        found = FoundTokenizer.of(specification)
    special = {_content(value) for value in names.values()} | {eos_token, _content(config.get("bos_token"))}
    tokens = _added_tokens(folder, config, added, special)
    return FoundTokenizer(add_tokens(found.serialized, tokens, folder), eos_token or found.eos_token)


def _base(folder: Path) -> tuple[str, ...] | None:
    """The files that hold the vocabulary, in the order of preference of Hugging Face's own loaders."""
    candidates = (("tokenizer.json",), *_PAIRS, ("tokenizer.model",))
    return next((files for files in candidates if all((folder / file).is_file() for file in files)), None)


def _read_object(path: Path) -> dict[str, Any]:
    return read_json_object(path, "tokenizer: ", "fetch it again") if path.is_file() else {}


def _content(token: Any) -> str | None:
    """A token is written as a string, or as an object with a string in it."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _check_class(folder: Path, config: dict[str, Any]) -> None:
    name = config.get("tokenizer_class")
    if name is not None and str(name).removesuffix("Fast") not in _BYTE_LEVEL_CLASSES:
        raise InputError(
            f"tokenizer: {folder} is of the class {name}, which is converted from a tokenizer.json only; "
            "save it with save_pretrained of its fast tokenizer"
        )


def _added_tokens(
    folder: Path, config: dict[str, Any], added: dict[str, Any], special: set[str | None]
) -> list[dict[str, Any]]:
    """The tokens that the folder's settings add to the vocabulary, as entries of a tokenizer.json."""
    tokens = {}
    try:
        for content, id_ in added.items():
            tokens[int(id_)] = {"content": content, "special": content in special}
        for id_, token in config.get("added_tokens_decoder", {}).items():
            tokens[int(id_)] = {**token, "special": token.get("special", False) or token["content"] in special}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"tokenizer: {folder} has malformed added tokens in its settings; fetch it again") from error
    return [{"id": id_, **token} for id_, token in sorted(tokens.items())]
