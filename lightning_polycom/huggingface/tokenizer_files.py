"""The tokenizer's files: AutoTokenizer gives the ids that the decoder was trained on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_polycom.atomic import write_json
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.json_file import read_json

if TYPE_CHECKING:
    import tokenizers


def save_tokenizer(folder: Path, tokenizer: Tokenizer, max_sequence_length: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    As in training, a text begins with the run's beginning-of-text token, if it has one, and no other special token is
    added; a text that spells one is encoded as ordinary characters.

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
    _set_added_tokens(path, tokenizer)
    named = {"eos_token": tokenizer.eos_token}
    if tokenizer.bos_token is not None:
        named["bos_token"] = tokenizer.bos_token
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        **({"add_bos_token": True} if tokenizer.bos_token is not None else {}),
        "model_max_length": max_sequence_length,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", named)


def read_tokenizer(folder: Path, config: dict[str, Any], eos_token: str | None) -> Tokenizer:
    """The tokenizer.json of a folder; its end-of-text token is `eos_token` or the one that the folder names.

    It has a beginning-of-text token where AutoTokenizer would begin texts with one.

    Raises:
        InputError: no tokenizer.json, or no end-of-text token.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"import: {folder} lacks tokenizer.json; save the fast tokenizer of transformers there")
    eos_token = eos_token or _named_eos_token(folder) or _token_of(path, config.get("eos_token_id"))
    return Tokenizer.load(path, eos_token, _bos_token(path))


def _set_added_tokens(path: Path, tokenizer: Tokenizer) -> None:
    """Gives a tokenizer.json the step that puts the beginning-of-text token before a text, and no other token."""
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(path))
    adds = backend.num_special_tokens_to_add(is_pair=False)
    if adds == (tokenizer.bos_token is not None) and _begins_with(backend) == tokenizer.bos_token:
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = None if adds else content.get("post_processor")
    steps = [] if kept is None else [kept]
    if tokenizer.bos_token is not None:
        steps.append(_template(tokenizer.bos_token, tokenizer.bos_token_id))
    processor = {"type": "Sequence", "processors": steps} if len(steps) > 1 else next(iter(steps), None)
    write_json(path, {**content, "post_processor": processor})


def _template(token: str, token_id: int) -> dict[str, Any]:
    """The tokenizers library's step that begins a text, and both of a pair, with a token."""
    one, other = (
        [{"SpecialToken": {"id": token, "type_id": kind}}, {"Sequence": {"id": name, "type_id": kind}}]
        for kind, name in enumerate("AB")
    )
    special = {token: {"id": token, "ids": [token_id], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": one, "pair": one + other, "special_tokens": special}


def _bos_token(path: Path) -> str | None:
    """The token that AutoTokenizer puts before every text, or None.

    It does what the steps of tokenizer.json say, whatever `add_bos_token` in tokenizer_config.json is.
    """
    import tokenizers

    try:
        return _begins_with(tokenizers.Tokenizer.from_file(str(path)))
    except Exception:  # the library raises plain Exception; Tokenizer.load, called next, says what is wrong
        return None


def _begins_with(backend: "tokenizers.Tokenizer") -> str | None:
    """The token that the steps of a tokenizer.json put before a text, or None."""
    whole, alone = (backend.encode("a", add_special_tokens=adds).ids for adds in (True, False))
    return backend.id_to_token(whole[0]) if len(whole) > len(alone) and whole[1 : 1 + len(alone)] == alone else None


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
