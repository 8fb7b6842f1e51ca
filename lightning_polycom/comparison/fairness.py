"""Whether a run that has ended may be compared with the others of its seed."""

from pathlib import Path
from typing import Any

from lightning_polycom.training.run_folder import read_record

SAME = {
    "data_fingerprint": "was trained on other shards",
    "data_domains": "has other training or validation domains",
    "tokenizer": "has another tokenizer",
    "tokens_per_step": "has another batch",
}
"""Facts of run.json that all arms of a seed share, and what it means if they do not."""


def is_complete(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` has ended at step `steps`."""
    if not (folder / "run.json").exists():
        return False
    record = read_record(folder)
    return record.get("status") == "finished" and record.get("steps") == steps


def unfair(folder: Path, reference: Path, same_start: bool) -> str | None:
    """What makes a run unlike `reference`, a run of the same seed, beside its arm; None if nothing does.

    Args:
        folder: The run's folder.
        reference: The other's.
        same_start: Whether the arms are to start with the same values outside the feed-forwards.
    """
    ours, theirs = read_record(folder), read_record(reference)
    other = f"{reference.parent.name} {reference.name}"
    for key, meaning in SAME.items():
        if ours.get(key) != theirs.get(key):
            return f"{meaning} than {other}: run.json's {key} differs"
    return _other_batches(ours, theirs, other) or (_other_start(ours, theirs, other) if same_start else None)


def _other_batches(ours: dict[str, Any], theirs: dict[str, Any], other: str) -> str | None:
    one, two = (record.get("token_stream") or {} for record in (ours, theirs))
    common = sorted(one.keys() & two.keys(), key=int)
    if not common:
        return f"shows no hash of its batches at a step at which {other} has one (run.json's token_stream)"
    step = next((step for step in common if one[step] != two[step]), None)
    return None if step is None else f"saw other batches than {other}, as the hashes of step {step} show"


def _other_start(ours: dict[str, Any], theirs: dict[str, Any], other: str) -> str | None:
    one, two = (record.get("initial_weights_digest") for record in (ours, theirs))
    if one is None or two is None:
        return f"shows no digest of its initial weights to hold against {other}"
    return None if one == two else f"began with other weights outside the feed-forwards than {other}"
