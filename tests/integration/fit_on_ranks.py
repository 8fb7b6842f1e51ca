"""`fit_on_ranks.py <starts.json>`: starts of `polycom fit`, one after the other, each on two processes.

Torch is imported once and the processes are forked, so that a start takes a second. Prints the exit codes of both ranks
of each, as JSON, in the last line. Tests call `fit_on_ranks`.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WAYS = {"ddp": ("--trainer.strategy", "ddp"), "fsdp": ("--config", "configs/trainer/fsdp.yaml")}


def fit_on_ranks(folder: Path, config: Path, starts: list[tuple[str, tuple, dict]]) -> tuple[list[list[int]], str]:
    """The exit codes of both ranks of each start, and what was printed.

    A start is its way (a key of WAYS), further options, and variables of the environment, in which {rank} stands for
    the number of each.
    """
    devices = ("--trainer.accelerator", "cpu", "--trainer.devices", 2)
    lines = [([*map(str, ("--config", config, *WAYS[way], *devices, *options))], env) for way, options, env in starts]
    (folder / "starts.json").write_text(json.dumps(lines))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, __file__, str(folder / "starts.json")],
        capture_output=True, text=True, timeout=200, cwd=HERE.parents[1], env=environment, check=False,
    )  # fmt: skip
    assert found.returncode == 0 and "Traceback" not in found.stderr, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1]), found.stdout + found.stderr


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _run_rank(rank: int, port: int, arguments: list[str], environment: dict[str, str]) -> None:
    """One rank as its launcher starts it."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ.update({**where, "WORLD_SIZE": "2", **{k: v.format(rank=rank) for k, v in environment.items()}})
    sys.argv = ["polycom", "fit", *arguments]
    main()


if __name__ == "__main__":
    from lightning_polycom.cli import main
    from lightning_polycom.commands import fit  # noqa: F401 - imported before the fork

    codes = []
    for start in json.loads(Path(sys.argv[1]).read_text()):
        port, context = _free_port(), multiprocessing.get_context("fork")
        ranks = [context.Process(target=_run_rank, args=(rank, port, *start)) for rank in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        codes.append([process.exitcode for process in ranks])
    print(json.dumps(codes))
