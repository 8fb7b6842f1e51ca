"""Documents in a window of tokens: where each begins, and which targets lie in another one.

Every document ends with one end-of-text token; the token after it begins the next. What precedes the first end of text
in a window is the rest of a document that began before, and counts its positions from the window's first token.
"""

import numpy as np


def document_positions(ends: np.ndarray) -> np.ndarray:
    """Position of every token in its document: int64 of the shape of `ends` (batch, sequence).

    `ends` is true at the last token of each document.
    """
    begins = np.empty_like(ends)
    begins[:, 1:] = ends[:, :-1]
    begins[:, 0] = True
    starts = np.flatnonzero(begins)
    positions = np.repeat(starts, np.diff(starts, append=ends.size))
    return np.subtract(np.arange(ends.size), positions, out=positions).reshape(ends.shape)


def separate_documents(batch: dict[str, np.ndarray], ends: np.ndarray, ignore_index: int) -> None:
    """Adds `positions` to a batch, and takes out the targets that begin a document.

    The first token of a document cannot be told from the end of another one, which is all that its predecessor may
    attend to. `ends` (batch, sequence) is true where an input is the end of a document.
    """
    batch["positions"] = document_positions(ends)
    np.putmask(batch["labels"], ends, ignore_index)
