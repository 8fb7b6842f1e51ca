"""A progress bar over a stream of documents, shown only to a terminal."""

from collections.abc import Iterable, Iterator

from lightning_polycom.data.sources import Document


def track(
    documents: Iterable[Document],
    description: str,
    num_documents: int | None = None,
    num_characters: int | None = None,
) -> Iterator[Document]:
    """Yields the documents and shows documents and million characters a second on stderr, if that is a terminal.

    Args:
        documents: The stream.
        description: What is being done.
        num_documents: How many there are, if known.
        num_characters: How long they are together, if known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from documents
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]:,}" + (f"/{num_documents:,}" if num_documents else "") + " documents"),
        TextColumn("{task.fields[rate]:.1f} M characters/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=num_characters, count=0, rate=0.0)
        for count, document in enumerate(documents, start=1):
            yield document
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed or 0.0
            progress.update(task, advance=len(document.text), count=count, rate=speed / 1e6)
