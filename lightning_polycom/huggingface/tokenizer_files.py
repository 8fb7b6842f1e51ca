"""The tokenizer's files: AutoTokenizer gives the ids that the decoder was trained on."""

import json
from pathlib import Path
from typing import Any

from lightning_polycom.atomic import write_json
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.json_file import read_json


def save_tokenizer(folder: Path, tokenizer: Tokenizer, max_sequence_length: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    As in training, no special token is added, and a text that spells one is encoded as ordinary characters.

    Raises:
        InputError: a tokenizer that only the sentencepiece library can use.
    """
    if tokenizer.uses_sentencepiece:
        raise InputError(
            "export: the run's tokenizer is a SentencePiece model of a kind whose exact ids transformers cannot give; "
            "only runs with another tokenizer can be exported"
        )
    path = folder / "tokenizer.json"
    tokenizer.save(path)
    _drop_added_tokens(path)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": tokenizer.eos_token,
        "model_max_length": max_sequence_length,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", {"eos_token": tokenizer.eos_token})


def read_tokenizer(folder: Path, config: dict[str, Any], eos_token: str | None) -> Tokenizer:
    """The tokenizer.json of a folder; its end-of-text token is `eos_token` or the one that the folder names.

    Raises:
        InputError: no tokenizer.json, or no end-of-text token.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"import: {folder} lacks tokenizer.json; save the fast tokenizer of transformers there")
    return Tokenizer.load(path, eos_token or _named_eos_token(folder) or _token_of(path, config.get("eos_token_id")))


def _drop_added_tokens(path: Path) -> None:
    """Removes the step of a tokenizer.json that puts special tokens around a text, if it has one."""
    import tokenizers

    if tokenizers.Tokenizer.from_file(str(path)).num_special_tokens_to_add(is_pair=False):
        content = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, {**content, "post_processor": None})


def _named_eos_token(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    token = read_json(path).get("eos_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _token_of(path: Path, token_id: Any) -> str | None:
    """The token that config.json's `eos_token_id` means; the first of several."""
    import tokenizers

    token_id = token_id[0] if isinstance(token_id, list) and token_id else token_id
    if not isinstance(token_id, int):
        return None
    try:
        return tokenizers.Tokenizer.from_file(str(path)).id_to_token(token_id)
    except Exception:  # the library raises plain Exception; Tokenizer.load, called next, says what is wrong
        return None
