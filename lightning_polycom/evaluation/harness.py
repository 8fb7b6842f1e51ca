"""One evaluation: lm-eval's own computation on tasks that are already loaded."""

import json
import warnings
from typing import Any

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.average import require_metrics
from lightning_polycom.evaluation.quiet import quiet_harness
from lightning_polycom.evaluation.ranks import broadcast, rank_and_world_size
from lightning_polycom.evaluation.refusal import TasksRefused
from lightning_polycom.evaluation.tasks import LoadedTasks

OUR_KEY = "polycom"


def run_evaluation(
    lm: Any,
    loaded_tasks: LoadedTasks,
    limit: int | None = None,
    seed: int = 1234,
    metrics: dict[str, str] | None = None,
    log_samples: bool = False,
) -> dict[str, Any]:
    """lm-eval's results of a `DecoderLM` on loaded tasks, as plain JSON values, on every rank.

    `limit` takes the first documents of each task; `seed` draws few-shot examples. No random state outside lm-eval is
    touched. Under the key "polycom" stand `chance` (accuracy of guessing by task), `failed` (reason by name), `metrics`
    (those that the average is made of) and `incomplete` (the groups that have lost a task). With `log_samples` the
    first rank also has every question and its answers by task, under "samples". A task that the decoder cannot answer,
    or whose own code fails, moves to `failed`, for later evaluations too. If no task is left, the results are empty.

    Raises:
        InputError: `limit` is not positive, or a task does not report its metric in `metrics`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"evaluation limit: {limit} is not a number of documents; use 1 or more, or null for all")
    require_metrics(loaded_tasks, metrics or {})
    results = _evaluate_what_works(lm, loaded_tasks, limit, seed, log_samples)
    extra = {
        "chance": loaded_tasks.chance(limit), "failed": dict(loaded_tasks.failed), "metrics": metrics or {},
        "incomplete": sorted(loaded_tasks.incomplete),
    }  # fmt: skip
    samples = {} if results is None else results.pop("samples", {})
    # lm-eval gives results only where LOCAL_RANK is 0.
    results = {**broadcast(results), OUR_KEY: extra}
    return {**results, "samples": samples} if samples else results


def _evaluate_what_works(
    lm: Any, loaded_tasks: LoadedTasks, limit: int | None, seed: int, log_samples: bool
) -> dict[str, Any] | None:
    """lm-eval's results, on its first rank, of the tasks that are left once those that fail are dropped."""
    while loaded_tasks.entries:
        try:
            return _simple_evaluate(lm, loaded_tasks, limit, seed, log_samples)
        except TasksRefused as refused:
            for task_name, reason in refused.reasons.items():
                _leave_out(loaded_tasks, task_name, reason)
        except InputError:
            raise
        except Exception:  # a task's own code or data; reported by name below, or raised if no task alone fails
            if not _leave_out_culprits(lm, loaded_tasks, limit, seed):
                raise
    return {"results": {}, "configs": {}}


def _leave_out(loaded_tasks: LoadedTasks, task_name: str, reason: str) -> None:
    loaded_tasks.drop(task_name, reason)
    if rank_and_world_size()[0] == 0:
        warnings.warn(f"evaluation: task {task_name} is left out: {reason}", stacklevel=3)


def _leave_out_culprits(lm: Any, loaded_tasks: LoadedTasks, limit: int | None, seed: int) -> bool:
    """Evaluates each requested name alone and leaves out those that fail; whether there was one."""
    found = False
    for name, entry in list(loaded_tasks.entries.items()):
        alone = LoadedTasks({name: entry})
        try:
            _simple_evaluate(lm, alone, limit, seed)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            for task_name in alone.tasks:
                _leave_out(loaded_tasks, task_name, reason)
            found = True
    return found


def _simple_evaluate(
    lm: Any, loaded_tasks: LoadedTasks, limit: int | None, seed: int, log_samples: bool = False
) -> dict[str, Any] | None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import handle_non_serializable

    with quiet_harness():
        results = simple_evaluate(
            model=lm,
            tasks=[item for entry in loaded_tasks.entries.values() for item in entry],
            task_manager=TaskManager(include_defaults=False),
            limit=limit,
            # 1 gives the analytic standard errors, 0 would give none.
            bootstrap_iters=1,
            log_samples=log_samples,
            # None leaves the random state of the running program alone.
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
            fewshot_random_seed=seed,
        )
    if results is None:
        return None
    samples = results.pop("samples", {})
    plain = json.loads(json.dumps(results, default=handle_non_serializable))
    return {**plain, "samples": samples} if samples else plain
