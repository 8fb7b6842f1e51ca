"""Documents in a window of tokens: where each begins, and which targets lie in another one.

Every document ends with one end-of-text token; the token after it begins the next. What precedes the first end of text
in a window is the rest of a document that began before, and counts its positions from the window's first token.
"""

import torch
from torch import Tensor


def document_positions(ends: Tensor) -> Tensor:
    """Position of every token in its document: int64 of the shape of `ends` (batch, sequence).

    `ends` is true at the last token of each document.
    """
    begins = torch.zeros_like(ends)
    begins[:, 1:] = ends[:, :-1]
    begins[:, 0] = True
    starts = begins.flatten().nonzero().flatten()
    lengths = torch.diff(starts, append=starts.new_tensor([ends.numel()]))
    position = torch.arange(ends.numel()) - starts.repeat_interleave(lengths, output_size=ends.numel())
    return position.view(ends.shape)


def separate_documents(batch: dict[str, Tensor], ends: Tensor, ignore_index: int) -> None:
    """Adds `positions` to a batch, and takes out the targets that begin a document.

    The first token of a document cannot be told from the end of another one, which is all that its predecessor may
    attend to. `ends` (batch, sequence) is true where an input is the end of a document.
    """
    batch["positions"] = document_positions(ends)
    batch["labels"][ends] = ignore_index
