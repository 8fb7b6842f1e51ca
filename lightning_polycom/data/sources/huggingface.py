"""Documents of a Hugging Face data set, by the library `datasets`, streamed."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lightning_polycom.data.sources.rows import Columns, check_columns, check_id, check_text
from lightning_polycom.errors import InputError


class DatasetName(NamedTuple):
    """A data set as `name[@revision][:config[:split]]`; the name is one of the hub's or a local folder."""

    name: str
    revision: str | None
    config: str | None
    split: str

    @classmethod
    def parse(cls, text: str) -> "DatasetName":
        """Reads the part of a source behind `huggingface:`.

        Raises:
            InputError: no name, or too many parts.
        """
        name, *rest = text.split(":")
        name, _, revision = name.partition("@")
        if not name or len(rest) > 2:
            raise InputError(f"sources: found huggingface:{text}; write huggingface:name[@revision][:config[:split]]")
        config, split = (*rest, "", "")[:2]
        return cls(name, revision or None, config or None, split or "train")

    @property
    def folder(self) -> Path | None:
        """The local folder that the name is, if it is one."""
        path = Path(self.name)
        return path if path.is_dir() else None


@lru_cache(maxsize=4)  # each opening looks for all of its files
def open_dataset(name: DatasetName) -> Any:
    """The data set as an IterableDataset, whose parts `shard(num_shards, index)` can be read side by side.

    A local folder may be one that `save_to_disk` wrote or one with data files that `datasets` knows.

    Raises:
        InputError: out of reach, no such config or split, or nothing that `datasets` can read.
    """
    import datasets

    try:
        if name.folder is not None and _is_saved(name.folder):
            saved = datasets.load_from_disk(str(name.folder))
            if isinstance(saved, datasets.DatasetDict):
                saved = saved[name.split]
            return saved.to_iterable_dataset(num_shards=min(_SAVED_SHARDS, max(1, len(saved))))
        return datasets.load_dataset(name.name, name.config, split=name.split, revision=name.revision, streaming=True)
    except Exception as error:  # the library raises what its many readers and clients raise
        raise _unreadable(name, error) from error


def read_dataset(name: DatasetName, num_shards: int, index: int, columns: Columns) -> Iterator[tuple[str, str]]:
    """Streams (id, text) of part `index` of `num_shards`; without an id column an id is `part:number`.

    Raises:
        InputError: out of reach, damaged, a missing column or a text that is none.
    """
    part = open_dataset(name).shard(num_shards=num_shards, index=index)
    try:
        for number, row in enumerate(part, start=1):
            where = f"part {index}, row {number}"
            check_columns(name.name, where, columns, list(row))
            text = check_text(row[columns.text], columns.text, name.name, where)
            yield (f"{index}:{number}" if columns.id is None else check_id(row, columns, name.name, where)), text
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(name, error) from error


_SAVED_SHARDS = 64


def _is_saved(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("state.json", "dataset_dict.json"))


def _unreadable(name: DatasetName, error: Exception) -> InputError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return InputError(
        f"huggingface:{name.name}: cannot be read ({reason}); check name, config, split and the network, "
        "or give a local folder"
    )
