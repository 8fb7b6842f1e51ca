"""The steps of a preparation, in a working folder whose finished parts the next start uses again."""

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_polycom.data.manifest import Manifest, content_fingerprint
from lightning_polycom.data.preparation.config import PrepareConfig
from lightning_polycom.data.preparation.decisions import Decisions, decide
from lightning_polycom.data.preparation.encoding import Encoder, EncodeTask, encode_segments, segment_path
from lightning_polycom.data.preparation.heldout_tasks import write_heldout_tasks
from lightning_polycom.data.preparation.joining import Joined, JoinTask, join_segments
from lightning_polycom.data.preparation.progress import Totals, describe
from lightning_polycom.data.preparation.survey import Segment, SurveyTask, UnitSurvey, records_path, survey_unit
from lightning_polycom.data.preparation.tokenizer_sample import train_tokenizer
from lightning_polycom.data.preparation.workers import Workers
from lightning_polycom.data.shards import token_dtype
from lightning_polycom.data.sources import Unit, plan_units, source_fingerprint
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError

_TOKENIZER_FILE = "tokenizer.json"


class SurveyedUnit(NamedTuple):
    """A unit, its survey, and the number of its first document among all documents."""

    unit: Unit
    survey: UnitSurvey
    first_document: int


class Build:
    """One preparation in the folder `working`; `run` leaves the finished folder in `working / "output"`."""

    def __init__(self, config: PrepareConfig, tokenizer: Tokenizer | None, working: Path):
        self.config, self.tokenizer, self.working = config, tokenizer, working
        self.output = working / "output"

    def run(self, recipe: dict[str, Any], fingerprint: str) -> Manifest:
        """All steps; what earlier runs finished is used.

        Raises:
            InputError: sources that cannot be read, or from which nothing is left to train on.
        """
        self._clear_half_done()
        with Workers(self.config.worker_count) as workers:
            units = self._survey(workers)
            records = [(unit.unit.domain, records_path(self.working / "survey", unit.unit)) for unit in units]
            decisions = decide(
                records, self.config.validation_fraction, self.config.drop_duplicates, self.working / "decisions"
            )
            tokenizer = self.tokenizer or train_tokenizer(self.config, units, decisions, workers, self.working)
            tokenizer.save(self.output / _TOKENIZER_FILE)
            segments = self._encode(workers, units, decisions, tokenizer)
            self._check_unchanged(recipe)
            joined = self._join(workers, segments, token_dtype(tokenizer.vocab_size), decisions)
        return self._finish(joined, decisions, tokenizer, recipe, fingerprint)

    def _clear_half_done(self) -> None:
        shutil.rmtree(self.output, ignore_errors=True)
        for half_written in self.working.glob("*/.*.tmp"):
            half_written.unlink()

    def _survey(self, workers: Workers) -> list[SurveyedUnit]:
        """Reads what no earlier run has read."""
        folder, config = self.working / "survey", self.config
        sources = [plan_units(source, config.columns, self.working / "spool") for source in config.sources]
        tasks = [SurveyTask(unit, config.columns, folder) for units in sources for unit in units]
        tasks = [task for task in tasks if not task.is_done]
        workers.run(survey_unit, tasks, "reading", sum(task.unit.num_bytes for task in tasks))
        surveyed, first = [], 0
        for source, units in zip(config.sources, sources, strict=True):
            before = first
            for unit in units:
                surveyed.append(SurveyedUnit(unit, UnitSurvey.load(folder, unit), first))
                first += surveyed[-1].survey.num_documents
            if first == before:
                raise InputError(f"sources: {source} has no text; leave it out or give another file")
        return surveyed

    def _encode(
        self, workers: Workers, units: list[SurveyedUnit], decisions: Decisions, tokenizer: Tokenizer
    ) -> dict[str, list[Path]]:
        """The files of all segments, by domain; those that are missing are made."""
        folder = self.working / "segments"
        encoder = Encoder(
            self.output / _TOKENIZER_FILE,
            tokenizer.fingerprint,
            tokenizer.eos_token,
            tokenizer.bos_token,
            self.config.drop_repetitions,
            decisions.path,
            folder,
        )
        by_domain: dict[str, list[Path]] = {}
        tasks = []
        for unit, survey, first in units:
            segments = [(segment, segment_path(encoder, unit, segment, first)) for segment in survey.segments]
            by_domain.setdefault(unit.domain, []).extend(path for _, path in segments)
            for run in missing_runs(segments, self.config.worker_count):
                tasks.append(EncodeTask(encoder, unit, self.config.columns, first, run))
        self._run_encoding(workers, tasks, done=sum(map(len, by_domain.values())))
        return by_domain

    def _run_encoding(self, workers: Workers, tasks: list[EncodeTask], done: int) -> None:
        missing = [segment for task in tasks for segment, _ in task.segments]
        if done > len(missing):
            print(f"going on with an unfinished preparation: {done - len(missing)} of {done} segments are there")
        totals = Totals(sum(s.num_documents for s in missing), sum(s.num_bytes for s in missing))
        started = time.perf_counter()
        workers.run(encode_segments, tasks, "encoding", totals.num_bytes, totals)
        if tasks:
            print(f"encoded {describe(workers.done(), time.perf_counter() - started)}")

    def _check_unchanged(self, recipe: dict[str, Any]) -> None:
        if source_fingerprint(self.config.sources, self.config.columns) != recipe["source_fingerprint"]:
            raise InputError("sources: files changed while they were read; run it again")

    def _join(
        self, workers: Workers, segments: dict[str, list[Path]], dtype: np.dtype, decisions: Decisions
    ) -> list[Joined]:
        """The shards of all splits and domains: training first, domains as they come."""
        tasks = [
            JoinTask(self.output, split, domain, dtype, self.config.shard_tokens, paths)
            for split in ("train", "validation")
            for domain, paths in segments.items()
        ]
        size = sum(path.stat().st_size for paths in segments.values() for path in paths)
        joined = workers.run(join_segments, tasks, "writing shards", size)
        for task, part in zip(tasks, joined, strict=True):
            decisions.domains[task.domain].num_dropped_repetitions += part.num_repetitive
        return joined

    def _finish(
        self,
        joined: list[Joined],
        decisions: Decisions,
        tokenizer: Tokenizer,
        recipe: dict[str, Any],
        fingerprint: str,
    ) -> Manifest:
        """The questions and the manifest."""
        shards = [shard for part in joined for shard in part.shards]
        if not any(shard.split == "train" for shard in shards):
            raise InputError("sources: every document is held out or repeats one that is; add text to train on")
        pools = {part.shards[0].domain: part.pool for part in joined if part.shards and part.pool.documents}
        write_heldout_tasks(self.output / "tasks", pools, self.config.questions_per_domain)
        manifest = Manifest(
            dtype=token_dtype(tokenizer.vocab_size).name,
            tokenizer=tokenizer.record(_TOKENIZER_FILE),
            document_rule=document_rule(tokenizer),
            recipe=recipe,
            recipe_fingerprint=fingerprint,
            fingerprint=content_fingerprint(tokenizer.fingerprint, shards),
            shards=shards,
            documents=decisions.domains,
        )
        manifest.save(self.output)
        return manifest


def missing_runs(segments: list[tuple[Segment, Path]], pieces: int) -> list[list[tuple[Segment, Path]]]:
    """The segments whose files are not there, as consecutive ones, cut so that `pieces` processes can share them."""
    runs: list[list[tuple[Segment, Path]]] = []
    missing = sum(not path.exists() for _, path in segments)
    most = -(-missing // pieces)
    follows = False
    for entry in segments:
        if entry[1].exists():
            follows = False
            continue
        if not follows or len(runs[-1]) == most:
            runs.append([])
        runs[-1].append(entry)
        follows = True
    return runs


def document_rule(tokenizer: Tokenizer) -> str:
    """What stands before and after every document, as a sentence."""
    before = "nothing comes before it" if tokenizer.bos_token is None else f"one {tokenizer.bos_token} comes before it"
    return f"Every document is followed by one end-of-text token; {before}."
