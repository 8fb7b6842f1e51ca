"""What changed between a checkpoint's data and a run's, in words."""

from lightning_polycom.data.changed_data import DomainRecord, describe_changes


def test_changes_in_words():
    before = [
        DomainRecord("train", "a", 1000, "x"),
        DomainRecord("train", "b", 7, "x"),
        DomainRecord("train", "c", 5, "x"),
    ]
    now = [
        DomainRecord("train", "a", 1200, "y"),
        DomainRecord("train", "b", 7, "y"),
        DomainRecord("validation", "c", 5, "x"),
    ]
    assert describe_changes(before, before) == ""
    changes = [
        "train domain 'a' had 1,000 tokens, now 1,200",
        "train domain 'b' has other contents (7 tokens as before)",
    ]
    assert describe_changes(before, now, common_only=True) == ", ".join(changes)
    changes += ["train domain 'c' is gone (5 tokens)", "validation domain 'c' is new (5 tokens)"]
    assert describe_changes(before, now) == ", ".join(changes)
