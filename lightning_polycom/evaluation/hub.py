"""Whether the Hugging Face Hub can be reached, found out in a moment, before a data set is asked for there."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_polycom.evaluation.quiet import offline, replaced

PROBE_SECONDS = 1.0


@contextmanager
def hub_asked_first() -> Iterator[None]:
    """Inside the block `datasets.load_dataset` takes a data set of the Hub from this machine if the Hub is silent.

    The Hub is asked once, when the first such data set is wanted. One that is not on this machine either raises
    ConnectionError.
    """
    import datasets
    import huggingface_hub

    load, answers = datasets.load_dataset, functools.cache(hub_answers)

    @functools.wraps(load)
    def load_dataset(path: str, *arguments: Any, **options: Any) -> Any:
        local = options.get("data_files") is not None or Path(path).exists()
        if local or huggingface_hub.constants.HF_HUB_OFFLINE or answers():
            return load(path, *arguments, **options)
        try:
            with offline():
                return load(path, *arguments, **options)
        except ConnectionError as error:
            raise ConnectionError(f"{error}; {huggingface_hub.constants.ENDPOINT} does not answer") from error

    with replaced(datasets, "load_dataset", load_dataset):
        yield


def hub_answers() -> bool:
    """Whether the Hub's address answers anything within `PROBE_SECONDS`.

    The hub client's own retries take tens of seconds. It asks through that client's session, so that a proxy or a
    mirror (HF_ENDPOINT) counts; in a thread, because looking up a name knows no time limit.
    """
    import huggingface_hub

    answered = threading.Event()
    threading.Thread(target=_ask, args=(huggingface_hub.constants.ENDPOINT, answered), daemon=True).start()
    return answered.wait(PROBE_SECONDS)


def _ask(endpoint: str, answered: threading.Event) -> None:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint, timeout=PROBE_SECONDS)
    except Exception:  # whatever the session of this or an earlier client raises: there is no answer
        return
    answered.set()
