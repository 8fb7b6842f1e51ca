"""What guessing scores."""

import itertools
from typing import Any


def chance_level(task: Any, limit: int | None = None) -> float | None:
    """Accuracy of uniform guessing: the mean over an lm-eval task's documents of 1 / number of choices.

    `limit` takes the first documents only. None for a task that is not multiple choice.
    """
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    shares = [1 / len(task.doc_to_choice(document)) for document in itertools.islice(task.eval_docs, limit)]
    return sum(shares) / len(shares)
