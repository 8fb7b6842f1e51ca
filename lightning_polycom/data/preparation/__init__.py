"""Text to a prepared folder: tokenizer, train and validation shards, questions from held-out text, manifest."""

import os
import shutil
import sys
from pathlib import Path

from lightning_polycom.data.manifest import Manifest
from lightning_polycom.data.preparation.build import Build
from lightning_polycom.data.preparation.config import PrepareConfig, make_recipe, recipe_fingerprint
from lightning_polycom.data.preparation.output_folder import put_in_place, sole_process, up_to_date
from lightning_polycom.data.sources import check_output_apart
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError

__all__ = ["PrepareConfig", "prepare"]


def prepare(config: PrepareConfig, output: str | os.PathLike) -> Manifest:
    """Makes the prepared folder `output`, or finds it up to date.

    It is built beside its place, in `.<name>.building`, and renamed at the end; a folder made by other settings or
    from other files is replaced. What is finished when a run is killed or fails stays in the working folder, and the
    next run uses it. Of several processes that ask for the same folder one builds it and the others wait.

    Raises:
        InputError: a setting, source or tokenizer that cannot be used, a full disk, or something else at `output`.
    """
    output = Path(output)
    if output.is_symlink() or not output.name:
        output = output.resolve()  # the folder is put in place by renaming, which needs its real name
    config.check()
    check_output_apart(config.sources, output)
    tokenizer = None
    if config.tokenizer is not None:
        tokenizer = Tokenizer.load(config.tokenizer, config.eos_token, config.bos_token)
    recipe = make_recipe(config, tokenizer)
    fingerprint = recipe_fingerprint(recipe)
    manifest = up_to_date(output, fingerprint)
    if manifest is None:
        with sole_process(output):
            manifest = up_to_date(output, fingerprint)
            if manifest is None:
                return _build(Build(config, tokenizer, _working_folder(output)), recipe, fingerprint, output)
    tokens = sum(shard.num_tokens for shard in manifest.shards)
    print(f"{output} is up to date: {tokens:,} tokens")
    return manifest


def _working_folder(output: Path) -> Path:
    return output.parent / f".{output.name}.building"


def _build(build: Build, recipe: dict, fingerprint: str, output: Path) -> Manifest:
    """Builds and puts the folder in place; the caller holds the lock."""
    try:
        manifest = build.run(recipe, fingerprint)
        put_in_place(build.output, output)
    except OSError as error:
        if error.filename is not None and not Path(error.filename).is_relative_to(output.parent):
            raise  # of something else than what is written here
        raise InputError(
            f"output: {build.working} cannot be written ({error.strerror or error}); free space or name another place: "
            "the same command goes on from the work that is finished"
        ) from error
    finally:
        if not any(build.working.glob("s*/*")):  # nothing that a next run could use
            shutil.rmtree(build.working, ignore_errors=True)
    shutil.rmtree(build.working, ignore_errors=True)
    _print_summary(manifest, output)
    return manifest


def _print_summary(manifest: Manifest, output: Path) -> None:
    _print_left_out(manifest)
    for split in ("train", "validation"):
        for domain in manifest.domains(split):
            shards = [shard for shard in manifest.shards if (shard.split, shard.domain) == (split, domain)]
            documents, tokens, size = (
                sum(getattr(shard, name) for shard in shards) for name in ("num_documents", "num_tokens", "num_bytes")
            )
            print(f"{split}/{domain}: {documents:,} documents, {tokens:,} tokens, {size / 1e6:,.2f} MB of text")
    print(f"prepared {output} (fingerprint {manifest.fingerprint[:12]})")
    sys.stdout.flush()


def _print_left_out(manifest: Manifest) -> None:
    """Says what a reader would not expect to be missing."""
    for domain, counts in manifest.documents.items():
        if counts.num_documents == 1 and manifest.recipe["validation_fraction"] > 0:
            print(f"{domain}: one document only, so nothing is held out; split it to get validation text")
        if counts.num_copies_of_held_out:
            print(f"{domain}: left out {counts.num_copies_of_held_out} documents whose text is that of a held-out one")
        if counts.num_duplicates:
            print(
                f"{domain}: {counts.num_duplicates} documents repeat an earlier one's text, "
                f"{counts.num_dropped_duplicates} of them left out as duplicates"
            )
        if counts.num_dropped_repetitions:
            print(f"{domain}: left out {counts.num_dropped_repetitions} documents with repetitions")
