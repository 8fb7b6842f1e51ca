"""The fields of a SentencePiece model file that decide its ids, read without the sentencepiece library.

Numbers and defaults of the fields are those of sentencepiece_model.proto in github.com/google/sentencepiece.
"""

from functools import cache
from pathlib import Path
from typing import Any

from lightning_polycom.errors import InputError

BPE = 2
"""A value of `trainer_spec.model_type`."""
MODEL_TYPES = {1: "unigram", BPE: "bpe", 3: "word", 4: "char"}

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Values of a piece's `type`."""

_FIELDS = {
    "SentencePiece": {"piece": (1, "string", ""), "score": (2, "float", "0"), "type": (3, "int32", "1")},
    "TrainerSpec": {
        "model_type": (3, "int32", "1"),
        "treat_whitespace_as_suffix": (24, "bool", "false"),
        "byte_fallback": (35, "bool", "false"),
        "eos_piece": (47, "string", "</s>"),
    },
    "NormalizerSpec": {
        "name": (1, "string", ""),
        "precompiled_charsmap": (2, "bytes", ""),
        "add_dummy_prefix": (3, "bool", "true"),
        "remove_extra_whitespaces": (4, "bool", "true"),
        "escape_whitespaces": (5, "bool", "true"),
    },
}


def parse_sentencepiece(content: bytes, path: Path) -> Any:
    """The message ModelProto of `content`, with `pieces`, `trainer_spec`, `normalizer_spec`, `denormalizer_spec`.

    Raises:
        InputError: not a SentencePiece model; names `path`.
    """
    from google.protobuf.message import DecodeError

    model = _model_class()()
    try:
        model.ParseFromString(content)
    except DecodeError:
        model = None
    # Strings that are no UTF-8 come out as bytes.
    texts = [] if model is None else [model.trainer_spec.eos_piece, *(piece.piece for piece in model.pieces)]
    if len(texts) < 2 or not all(isinstance(text, str) and text for text in texts[1:]) or isinstance(texts[0], bytes):
        raise InputError(
            f"tokenizer: {path} is no JSON file of the tokenizers library and no SentencePiece model; "
            "give one of these, a folder with one, a name on the hub, or tiktoken:NAME"
        )
    return model


@cache
def _model_class() -> type:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    package = "lightning_polycom.sentencepiece"
    file = descriptor_pb2.FileDescriptorProto(name="lightning_polycom/sentencepiece.proto", package=package)
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, default) in fields.items():
            type_ = getattr(kinds, f"TYPE_{kind.upper()}")
            message.field.add(name=field, number=number, type=type_, label=kinds.LABEL_OPTIONAL, default_value=default)
    model = file.message_type.add(name="ModelProto")
    for field, number, name in (
        ("pieces", 1, "SentencePiece"),
        ("trainer_spec", 2, "TrainerSpec"),
        ("normalizer_spec", 3, "NormalizerSpec"),
        ("denormalizer_spec", 5, "NormalizerSpec"),
    ):
        label = kinds.LABEL_REPEATED if field == "pieces" else kinds.LABEL_OPTIONAL
        model.field.add(name=field, number=number, type=kinds.TYPE_MESSAGE, label=label, type_name=f".{package}.{name}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.ModelProto"))
