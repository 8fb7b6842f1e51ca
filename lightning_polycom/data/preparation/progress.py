"""A progress bar over work that several processes do, shown only to a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lightning_polycom.data.preparation.workers import Done


class Totals(NamedTuple):
    """What a stage will have done at its end."""

    documents: int
    num_bytes: int


def describe(done: "Done", seconds: float, totals: Totals | None = None) -> str:
    """Documents, MB and tokens with their speeds, as one line."""
    seconds = max(seconds, 1e-9)
    of = f"/{totals.documents:,}" if totals else ""
    text = (
        f"{done.documents:,}{of} documents, {done.num_bytes / 1e6:,.1f} MB ({done.num_bytes / 1e6 / seconds:,.1f} MB/s)"
    )
    if done.tokens:
        text += f", {done.tokens:,} tokens ({done.tokens / seconds:,.0f} tokens/s)"
    return text


@contextmanager
def show(description: str, done: Callable[[], "Done"], totals: Totals | None) -> Iterator[None]:
    """Shows on stderr how far the block is, if that is a terminal; `done` is asked ten times a second."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    started = time.perf_counter()

    class Counts(ProgressColumn):
        def render(self, task) -> Text:
            now = done()
            progress.update(task.id, completed=now.num_bytes)
            return Text(describe(now, time.perf_counter() - started, totals))

    columns = (TextColumn("{task.description}"), BarColumn(), Counts(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        progress.add_task(description, total=totals.num_bytes if totals else None)
        yield
