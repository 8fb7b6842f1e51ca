"""What a run trains and validates on: shards by domain, whoever made them, all of one tokenizer."""

import os
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np

from lightning_polycom.atomic import atomic_path
from lightning_polycom.data.changed_data import DomainRecord
from lightning_polycom.data.document_ends import require_document_ends, require_ends_between
from lightning_polycom.data.formats import ForeignShards, open_foreign
from lightning_polycom.data.joined_tokens import JoinedTokens
from lightning_polycom.data.manifest import Manifest, TokenizerRecord, content_fingerprint, named_fingerprint
from lightning_polycom.data.mixture import Span
from lightning_polycom.data.shard_selection import Paths, ShardSelection
from lightning_polycom.data.shards import TokenShards, native_folder, open_shards
from lightning_polycom.data.text_bytes import count_text_bytes
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError

Shards = TokenShards | ForeignShards


class TrainingData:
    """The training text and the validation domains of a run; opened when they are asked for.

    Attributes:
        tokenizer: The one that all shards were made with.

    Raises:
        InputError: no tokenizer, prepared folders of different ones, or one that is not the given one.
    """

    def __init__(self, selection: ShardSelection):
        self.selection = selection
        self._manifests = {folder: Manifest.load(folder) for folder in selection.prepared_folders()}
        self._tokenizer_path, self.tokenizer = _common_tokenizer(selection, self._manifests)
        self._tokens_per_byte: dict[str, float] = {}

    @cached_property
    def train_shards(self) -> TokenShards | ForeignShards | JoinedTokens:
        """The training text as one sequence: of a prepared folder as it lies there, else domain after domain by name.

        Raises:
            InputError: nothing to train on, or shards that `open_shards` refuses.
        """
        if self.selection.folder is not None:
            return open_shards(self.selection.folder, "train")
        domains = list(self._named_train.values())
        return domains[0] if len(domains) == 1 else JoinedTokens(domains, self.tokenizer.eos_token_id)

    def num_samples(self, sequence_length: int) -> int:
        """How many samples of `sequence_length` tokens, each with the token after it, the training text has.

        Raises:
            InputError: not one.
        """
        tokens = self.train_shards.num_tokens
        if tokens <= sequence_length:
            raise InputError(
                f"data.sequence_length: {sequence_length} is longer than the {tokens} training tokens in "
                f"{self.selection}; prepare more text or shorten it"
            )
        return (tokens - 1) // sequence_length

    @cached_property
    def train_spans(self) -> list[Span]:
        """Where each training domain lies in `train_shards`."""
        if self.selection.folder is not None:
            return _spans_of(self._manifests[self.selection.folder])
        first, spans = 0, []
        for domain, shards in self._named_train.items():
            spans.append(Span(domain, first, shards.num_tokens, shards.fingerprint))
            first += shards.num_tokens
        return spans

    @cached_property
    def validation(self) -> dict[str, Shards]:
        """Each validation domain's shards: those of the prepared folder, then the named ones.

        Raises:
            InputError: two domains of one name, or shards that `open_shards` refuses.
        """
        folder, opened = self.selection.folder, {}
        if folder is not None:
            for domain in self._manifests[folder].domains("validation"):
                opened[domain] = open_shards(folder, "validation", domain)
        for domain, paths in self.selection.named("validation").items():
            if domain in opened:
                raise InputError(f"data.validation: {folder} has a domain '{domain}' too; give this one another name")
            opened[domain] = self._open("validation", domain, paths)
        return opened

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex: the prepared folder's own; of named shards over the tokenizer and the training domains."""
        if self.selection.folder is not None:
            return self._manifests[self.selection.folder].fingerprint
        parts = [("train", domain, shards.fingerprint) for domain, shards in self._named_train.items()]
        return named_fingerprint(self.tokenizer.sha256, parts)

    def records(self) -> list[DomainRecord]:
        """What a checkpoint keeps of the data: a line for each domain of each split."""
        if self.selection.folder is not None:
            manifest = self._manifests[self.selection.folder]
            found = [_record_of(manifest, "train", domain) for domain in manifest.domains("train")]
        else:
            found = [DomainRecord("train", span.domain, span.num_tokens, span.fingerprint) for span in self.train_spans]
        for domain, shards in self.validation.items():
            found.append(DomainRecord("validation", domain, shards.num_tokens, shards.fingerprint))
        return found

    def tokens_per_byte(self, domain: str) -> float:
        """Tokens of a validation domain per UTF-8 byte of its text, which is counted once if it is not recorded."""
        if domain not in self._tokens_per_byte:
            shards = self.validation[domain]
            num_bytes = (
                count_text_bytes(shards, self.load_tokenizer()) if shards.num_bytes is None else shards.num_bytes
            )
            self._tokens_per_byte[domain] = shards.num_tokens / max(1, num_bytes)
        return self._tokens_per_byte[domain]

    def require_document_ends(self, in_one_text: bool) -> None:
        """Refuses shards whose documents cannot be told apart; `in_one_text` if training goes through all as one.

        Raises:
            InputError: no end-of-text tokens in a domain, or none between two that follow each other.
        """
        eos = self.tokenizer.eos_token_id
        if self.selection.folder is None:
            require_document_ends("train", self._named_train, eos)
            if in_one_text:
                require_ends_between(self._named_train, eos)
        require_document_ends("validation", self.validation, eos)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        return Tokenizer.load(self._tokenizer_path, self.tokenizer.eos_token, self.tokenizer.bos_token)

    def save_tokenizer(self, path: Path) -> None:
        """Writes the tokenizer's JSON file, atomically; a prepared folder's is copied byte for byte."""
        if not self._manifests:
            self.load_tokenizer().save(path)
            return
        with atomic_path(path) as temporary:
            shutil.copyfile(self._tokenizer_path, temporary)

    @cached_property
    def _named_train(self) -> dict[str, Shards]:
        named = self.selection.named("train")
        if not named:
            raise InputError("data.train: empty; name a prepared folder in data.folder, or shards in data.train")
        return {domain: self._open("train", domain, paths) for domain, paths in named.items()}

    def _open(self, split: str, domain: str, paths: Paths) -> Shards:
        """The shards of a named domain, which have to hold a sample's input and target at least."""
        if native_folder(paths) is not None:
            return open_shards(paths, split, dtype=self.selection.dtype_of(domain))
        shards = open_foreign(paths, split, self.selection.dtype_of(domain), self.tokenizer.vocab_size)
        if shards.num_tokens < 2:
            raise InputError(f"data.{split}: '{domain}' has {shards.num_tokens} token; leave it out")
        shards.eos_token_id = self.tokenizer.eos_token_id
        return shards


def _common_tokenizer(
    selection: ShardSelection, manifests: dict[Path, Manifest]
) -> tuple[str | os.PathLike, TokenizerRecord]:
    """Where the tokenizer of all shards lies, and what is known of it."""
    if not manifests:
        return _given_tokenizer(selection, selection.eos_token, None)
    folders = list(manifests)
    first, record = folders[0], manifests[folders[0]].tokenizer
    for folder in folders[1:]:
        other = manifests[folder].tokenizer
        if (other.sha256, other.eos_token_id) != (record.sha256, record.eos_token_id):
            raise InputError(
                f"data: {folder} was prepared with tokenizer {other.sha256[:12]} and end of text {other.eos_token!r}, "
                f"{first} with {record.sha256[:12]} and {record.eos_token!r}; prepare both with one tokenizer"
            )
    if selection.tokenizer is not None:
        _, given = _given_tokenizer(selection, record.eos_token, record.bos_token)
        if given.sha256 != record.sha256:
            raise InputError(
                f"data.tokenizer: {selection.tokenizer} is tokenizer {given.sha256[:12]}, {first} was prepared with "
                f"{record.sha256[:12]}; leave it out, or prepare the text with it"
            )
    if selection.eos_token not in (None, record.eos_token):
        raise InputError(
            f"data.eos_token: found {selection.eos_token!r}, {first} was prepared with {record.eos_token!r}; "
            "leave it out"
        )
    return first / record.file, record


def _given_tokenizer(
    selection: ShardSelection, eos_token: str | None, bos_token: str | None
) -> tuple[str, TokenizerRecord]:
    if selection.tokenizer is None:
        raise InputError(
            "data.tokenizer: empty; files of other tools do not bring their tokenizer, so name the one that made them"
        )
    loaded = Tokenizer.load(selection.tokenizer, eos_token, bos_token)
    return selection.tokenizer, loaded.record(str(selection.tokenizer))


def _record_of(manifest: Manifest, split: str, domain: str) -> DomainRecord:
    shards = [shard for shard in manifest.shards if (shard.split, shard.domain) == (split, domain)]
    fingerprint = content_fingerprint(manifest.tokenizer.sha256, shards)
    return DomainRecord(split, domain, sum(shard.num_tokens for shard in shards), fingerprint)


def _spans_of(manifest: Manifest) -> list[Span]:
    """The training domains of a prepared folder, as they lie one after another in its training shards."""
    shards = [shard for shard in manifest.shards if shard.split == "train"]
    firsts = np.cumsum([0, *(shard.num_tokens for shard in shards)])
    spans = []
    for domain in manifest.domains("train"):
        mine = [number for number, shard in enumerate(shards) if shard.domain == domain]
        if mine != list(range(mine[0], mine[-1] + 1)):
            raise InputError(f"data.mixture: the shards of '{domain}' do not follow each other; prepare the text again")
        record = _record_of(manifest, "train", domain)
        spans.append(Span(domain, int(firsts[mine[0]]), record.num_tokens, record.fingerprint))
    return spans
