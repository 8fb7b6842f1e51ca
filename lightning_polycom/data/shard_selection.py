"""What a run's YAML says of its data: a prepared folder, or shards by domain, and the tokenizer that made them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_polycom.data.manifest import Manifest
from lightning_polycom.data.shards import native_folder
from lightning_polycom.errors import InputError

Paths = str | list[str]
"""A file, a folder, a glob or Megatron's prefix, or a list of such, read as one sequence."""

UNNAMED = "text"
"""The domain of shards that are given without a name."""


@dataclass(frozen=True)
class ShardSelection:
    """The settings of the same names under `data`; see `TokenDataModule`.

    Raises:
        InputError: nothing to train on, two things to train on, a name that cannot be a domain's, or a dtype for a
            domain that is not there.
    """

    folder: Path | None = None
    train: Paths | dict[str, Paths] | None = None
    validation: Paths | dict[str, Paths] | None = None
    tokenizer: str | None = None
    eos_token: str | None = None
    dtype: str | dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.folder is not None and self.train is not None:
            raise InputError(
                "data.train: found beside data.folder; set data.folder to null and name a prepared folder in data.train"
            )
        if self.folder is not None and self.dtype is not None and self.validation is None:
            raise InputError("data.dtype: a prepared folder records its own; leave it out")
        if self.folder is None and not (self.train or self.validation):
            raise InputError(
                "data: nothing to train on; name a prepared folder in data.folder, or shards in data.train"
            )
        known = []
        for split in ("train", "validation"):
            given = getattr(self, split)
            domains = list(given) if isinstance(given, Mapping) else [] if given is None else [UNNAMED]
            for domain in domains:
                if not re.fullmatch(r"[\w-]+", str(domain), flags=re.ASCII):
                    raise InputError(f"data.{split}: found domain {domain!r}; use letters, digits, _ and -")
            known += domains
        for domain in self.dtype if isinstance(self.dtype, Mapping) else ():
            if domain not in known:
                raise InputError(f"data.dtype: no domain '{domain}'; there are {', '.join(dict.fromkeys(known))}")

    def named(self, split: str) -> dict[str, Paths]:
        """The split's shards by domain, sorted by name, so that the order in YAML does not matter.

        A prepared folder that is given without a name stands for its own domains.

        Raises:
            InputError: a list that names a prepared folder.
        """
        given = getattr(self, split)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            given = _own_domains(given, split) or {UNNAMED: given}
        for domain, paths in given.items():
            folders = [] if isinstance(paths, str) else [path for path in paths if native_folder(path)]
            if folders:
                raise InputError(
                    f"data.{split}: '{domain}' lists {folders[0]}, which `polycom prepare` made; a list joins files of "
                    "other tools, so make it a domain of its own"
                )
        return dict(sorted(given.items()))

    def dtype_of(self, domain: str) -> str | None:
        """The dtype that is given for a domain's files, or for all."""
        return self.dtype.get(domain) if isinstance(self.dtype, Mapping) else self.dtype

    def prepared_folders(self) -> list[Path]:
        """Every prepared folder that is named, once."""
        paths = [path for split in ("train", "validation") for path in self.named(split).values()]
        folders = [self.folder, *(native_folder(path) for path in paths)]
        return list(dict.fromkeys(folder for folder in folders if folder is not None))

    def __str__(self) -> str:
        """What is trained on, for messages and records."""
        if self.folder is not None:
            return str(self.folder)
        return ", ".join(f"{domain}={_shown(paths)}" for domain, paths in self.named("train").items())


def _own_domains(paths: Paths, split: str) -> dict[str, Paths]:
    """The domains of a prepared folder; empty for anything else."""
    folder = native_folder(paths)
    if folder is None or folder != Path(paths):
        return {}
    return {domain: str(folder / split / domain) for domain in Manifest.load(folder).domains(split)}


def _shown(paths: Paths) -> str:
    return paths if isinstance(paths, str) else f"{paths[0]} and {len(paths) - 1} more" if paths else "nothing"
