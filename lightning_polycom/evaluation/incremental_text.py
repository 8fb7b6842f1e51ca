"""Text of token ids that arrive one by one, without decoding all of them again for each."""

from collections.abc import Callable

INCOMPLETE = "\ufffd"  # how a decoder writes bytes that are no character yet
MOST_HELD = 8  # ids: what is no character by then never becomes one


class IncrementalText:
    """Decodes a growing list of token ids; each id costs as much as decoding a few.

    Bytes of an unfinished character are held back until the rest arrives or `finish` is called, but not for long.
    """

    def __init__(self, decode: Callable[[list[int]], str]):
        self._decode = decode
        self._ids: list[int] = []
        self._start = self._shown = 0  # the ids decoded together, and those of them whose text is out

    def add(self, token: int) -> str:
        """The text that the next id completes; may be empty."""
        self._ids.append(token)
        text = self._behind_shown()
        if text.endswith(INCOMPLETE) and len(self._ids) - self._shown < MOST_HELD:
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return text

    def finish(self) -> str:
        """What was held back, as it is."""
        return self._behind_shown()

    def _behind_shown(self) -> str:
        # The ids before give the new ones their surroundings: some decoders strip a space at the start.
        before = self._decode(self._ids[self._start : self._shown])
        return self._decode(self._ids[self._start :])[len(before) :]
