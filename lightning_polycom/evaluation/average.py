"""The one number over several tasks."""

from typing import Any

from lightning_polycom.errors import InputError


def average(values: dict[str, float], metrics: dict[str, str], multiple_choice: list[str]) -> float | None:
    """The mean of `eval/<task>/<metric>` over `metrics`, which names the metric of each task or group.

    Without `metrics`, the mean over the `multiple_choice` tasks of acc_norm where there is one, else acc. None if there
    is nothing to average, or if one of `metrics` is missing: a mean over fewer tasks is another number.
    """
    if metrics:
        chosen = [values.get(f"eval/{name}/{metric}") for name, metric in metrics.items()]
        if None in chosen:
            return None
    else:
        either = [values.get(f"eval/{name}/acc_norm", values.get(f"eval/{name}/acc")) for name in multiple_choice]
        chosen = [value for value in either if value is not None]
    return sum(chosen) / len(chosen) if chosen else None


def require_metrics(loaded: Any, metrics: dict[str, str]) -> None:
    """Checks that each task or group of `LoadedTasks` reports the metric that `metrics` names for it.

    Where a requested name could not be loaded, names that are unknown may lie in it, and pass.

    Raises:
        InputError: a name that is not evaluated, or a metric that it does not report.
    """
    for name, metric in metrics.items():
        reported = _reported(loaded, name)
        if reported is None and not loaded.failed:
            known = ", ".join([*loaded.groups, *loaded.tasks])
            raise InputError(f"evaluation.metrics: {name} is not among the tasks and groups of this run ({known})")
        if reported is not None and metric not in reported:
            theirs = ", ".join(reported) or "none of its own"
            raise InputError(f"evaluation.metrics: {name} has no metric {metric!r}; it reports {theirs}")


def _reported(loaded: Any, name: str) -> list[str] | None:
    if name in loaded.tasks:
        return list(loaded.tasks[name].aggregation())
    if name in loaded.groups:
        return [aggregate.metric for aggregate in loaded.groups[name].aggregate_metric_list or []]
    return None
