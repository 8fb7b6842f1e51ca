"""Exceptions for what a decoder cannot answer."""

from lightning_polycom.errors import InputError


class TasksRefused(InputError):
    """Tasks that cannot be evaluated on this decoder; `reasons` gives one line by task name."""

    def __init__(self, reasons: dict[str, str]):
        super().__init__("; ".join(f"task {task}: {reason}" for task, reason in reasons.items()))
        self.reasons = reasons


class RequestsRefused(InputError):
    """Requests that cannot be answered; `reasons` gives one line by position in the list of requests."""

    def __init__(self, reasons: dict[int, str]):
        super().__init__(f"evaluation: {next(iter(reasons.values()))} ({len(reasons)} requests are refused)")
        self.reasons = reasons
