"""Reads torch.distributed.checkpoint folders without executing anything in them."""

import pickle
from typing import Any

from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, StorageMeta

from lightning_polycom.errors import InputError

# All that describes tensors in pieces. `torch` itself is limited to dtypes, layouts and sizes below.
ALLOWED = frozenset(
    {
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "Metadata",
            "TensorStorageMetadata",
            "TensorProperties",
            "ChunkStorageMetadata",
            "MetadataIndex",
            "StorageMeta",
            "_MEM_FORMAT_ENCODING",
        )
    }
    | {("torch.distributed.checkpoint.filesystem", "_StorageInfo"), ("torch", "Size")}
    | {("torch.serialization", "_get_layout"), ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath")}
    | {("torch", name) for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")}
)


class _Unpickler(pickle.Unpickler):
    """Builds nothing but descriptions of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


class SafeReader(FileSystemReader):
    """torch's reader, whose `.metadata` is a pickle, with a list of what that pickle may build.

    Objects other than tensors are refused too: torch would load them with an unrestricted pickle.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The description of all tensors in the folder.

        Raises:
            InputError: the file is missing or damaged, or would execute something or load more than tensors.
        """
        path = self._get_metadata_path()
        try:
            with path.open("rb") as file:
                metadata = _Unpickler(file).load()
            plain = all(not isinstance(entry, BytesStorageMetadata) for entry in metadata.state_dict_metadata.values())
            names = {info.relative_path for info in metadata.storage_data.values()}
        except pickle.UnpicklingError as error:
            raise InputError(f"checkpoint: {path} is refused, it holds more than tensors ({error})") from error
        except Exception as error:  # a damaged pickle may raise anything
            raise InputError(
                f"checkpoint: {path} cannot be read, it is damaged or missing ({_one_line(error)})"
            ) from error
        if not plain or any("/" in name for name in names):
            raise InputError(f"checkpoint: {path} is refused, it holds more than tensors of its own folder")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
