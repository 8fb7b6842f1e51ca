"""A tokenizer of the Hugging Face hub by its name: from the local cache, else fetched."""

import re
from pathlib import Path

from lightning_polycom.data.tokenizer_formats.folder import FILES, holds_tokenizer
from lightning_polycom.errors import InputError

_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*(?:/[\w-][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?")
_FILE_ENDINGS = (".json", ".model", ".tiktoken", ".txt", ".bpe")


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form of a name on the hub: `name` or `owner/name`, and `@revision` if wanted."""
    return _NAME.fullmatch(name) is not None and not name.endswith(_FILE_ENDINGS)


def hub_folder(name: str) -> Path:
    """The folder of the local cache that holds the tokenizer's files; the network is only used if it has none.

    Raises:
        InputError: not in the cache, and not to be had from the hub.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    match = _NAME.fullmatch(name)
    repository, revision = match["repository"], match["revision"]
    try:
        for file in FILES:
            cached = try_to_load_from_cache(repository, file, revision=revision)
            if isinstance(cached, str) and holds_tokenizer(Path(cached).parent):
                return Path(cached).parent
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:  # the hub's errors, and those of the network, are OSErrors
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(
            f"tokenizer: {name} is no file or folder here, is not in the hub's cache (HF_HOME), and cannot be fetched "
            f"({reason}); give a file, or fetch it where there is a network"
        ) from error
