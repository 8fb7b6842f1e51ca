"""What differs between the data of a checkpoint and that of the run which resumes it, in words."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lightning_polycom.data.training_data import TrainingData


class DomainRecord(NamedTuple):
    """What a checkpoint keeps of a domain of its data: where it stands, how long it is, and a hash of its contents."""

    split: str
    domain: str
    num_tokens: int
    fingerprint: str


class DataChange(NamedTuple):
    """A run that went on with other data: from which global sample on, what it had until then, and what changed."""

    from_sample: int
    fingerprint_before: str
    what: str


def changed_data(state: dict[str, Any], data: "TrainingData") -> DataChange | None:
    """What differs between the data that a checkpoint's `state` records and `data`; None if it may go on.

    Validation domains of other tools may be added and left out, as each has its own loss; the contents of one that
    stays must be the same.
    """
    same = state["fingerprint"] == data.fingerprint
    if "domains" not in state:  # a checkpoint from before they were recorded
        what = (
            ""
            if same
            else f"the checkpoint was trained on fingerprint {state['fingerprint']}, this run has {data.fingerprint}"
        )
    else:
        before = [DomainRecord(*record) for record in state["domains"]]
        what = describe_changes(before, data.records(), common_only=same)
        if not same:
            what = what or "the order of the training shards is another"
    return DataChange(state["samples"], state["fingerprint"], what) if what else None


def describe_changes(before: Iterable[DomainRecord], now: Iterable[DomainRecord], *, common_only: bool = False) -> str:
    """The domains that differ, with their tokens before and now; empty if none does.

    `common_only` leaves out those that are there only before, or only now.
    """
    old = {(record.split, record.domain): record for record in before}
    new = {(record.split, record.domain): record for record in now}
    found = []
    for split, domain in sorted(old.keys() | new.keys()):
        here, there = old.get((split, domain)), new.get((split, domain))
        name = f"{split} domain '{domain}'"
        if here is None or there is None:
            if not common_only:
                found.append(
                    f"{name} is gone ({here.num_tokens:,} tokens)"
                    if there is None
                    else f"{name} is new ({there.num_tokens:,} tokens)"
                )
        elif here.num_tokens != there.num_tokens:
            found.append(f"{name} had {here.num_tokens:,} tokens, now {there.num_tokens:,}")
        elif here.fingerprint != there.fingerprint:
            found.append(f"{name} has other contents ({here.num_tokens:,} tokens as before)")
    return ", ".join(found)
