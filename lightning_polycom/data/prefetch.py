"""What a loop needs next, made by one thread while the loop works on what it has."""

import threading
import weakref
from collections.abc import Iterable, Iterator
from queue import Empty, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetched(Iterator[Item], Generic[Item]):
    """The items of an iterable, in order, taken from it ahead of time by one thread.

    At most `depth` items wait, besides the one that is being made. An error that the iterable raises is raised here as
    it is, when its turn comes. The thread ends with the items, with an error, with `close`, with this object, and with
    the process, whichever comes first.
    """

    def __init__(self, items: Iterable[Item], depth: int = 1):
        self._queue: Queue = Queue(depth)
        ending = threading.Event()
        # Nothing that the thread holds may hold this object, or it would never be garbage.
        thread = threading.Thread(target=_make, args=(items, self._queue, ending), name="prefetch", daemon=True)
        # Before the interpreter goes down, too, when a thread may no longer run.
        self._close = weakref.finalize(self, _end, thread, self._queue, ending)
        thread.start()

    def __next__(self) -> Item:
        if not self._close.alive:
            raise StopIteration
        item, error = self._queue.get()
        if error is not None:
            self.close()
            raise error
        return item

    def close(self) -> None:
        """Ends the thread, after the item that it is making; there are no more items then."""
        self._close()


def _make(items: Iterable[Item], queue: Queue, ending: threading.Event) -> None:
    """The thread: puts pairs of an item and None, in the end None and what ended it."""
    end: BaseException = StopIteration()
    try:
        for item in items:
            queue.put((item, None))
            if ending.is_set():
                return
    except BaseException as error:  # whatever it is, the loop that waits must get it
        end = error
    if not ending.is_set():
        queue.put((None, end))


def _end(thread: threading.Thread, queue: Queue, ending: threading.Event) -> None:
    if not thread.is_alive():  # such as in a fork, where its locks may be held for ever
        return
    ending.set()
    try:
        while True:  # a thread that waits for room puts its one item, sees that it is the end, and leaves
            queue.get_nowait()
    except Empty:
        pass
    if thread is not threading.current_thread():  # garbage may be collected in any thread
        thread.join()
