"""Runs lm-eval inside another program: no progress bars, no log lines, no telemetry, no trace in random states."""

import functools
import logging
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute of `owner` for the length of the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@functools.cache
def environment_info() -> str:
    """torch's description of the machine; it takes seconds and lm-eval asks for it at every evaluation."""
    from torch.utils.collect_env import get_env_info, pretty_str

    return pretty_str(get_env_info())


@functools.cache
def git_commit() -> str | None:
    """The commit of the working directory; lm-eval's own function lets git complain on the terminal."""
    try:
        answer = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Gives Python's, NumPy's and torch's CPU generator their states back; lm-eval draws from Python's for names."""
    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.random.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keeps lm-eval and datasets off the terminal, out of random states, and off the network for local data.

    Errors are still logged, and exceptions pass.
    """
    import datasets
    import lm_eval.api.task
    import lm_eval.evaluator
    from torch.utils import collect_env
    from tqdm import tqdm

    with ExitStack() as stack:
        stack.enter_context(random_states_kept())
        for name in ("lm_eval", "datasets", "huggingface_hub"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        if not datasets.are_progress_bars_disabled():
            stack.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        # lm-eval offers no switch for this bar.
        stack.enter_context(replaced(lm_eval.api.task, "tqdm", functools.partial(tqdm, disable=True)))
        stack.enter_context(replaced(collect_env, "get_pretty_env_info", environment_info))
        stack.enter_context(replaced(lm_eval.evaluator, "get_git_commit_hash", git_commit))
        # A download counter: a network request even for local files.
        stack.enter_context(replaced(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False))
        yield


@contextmanager
def offline() -> Iterator[None]:
    """Makes datasets and huggingface_hub use only what is on this machine."""
    import datasets
    import huggingface_hub

    with (
        replaced(datasets.config, "HF_HUB_OFFLINE", True),
        replaced(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
    ):
        yield
