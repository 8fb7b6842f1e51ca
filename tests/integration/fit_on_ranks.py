"""`fit_on_ranks.py <starts.json>`: starts of `polycom fit`, one after the other, each on two processes.

Torch is imported once and the processes are forked, so that a start takes a second. A start is its command line and
variables of the environment. Prints the exit codes of both ranks of each, as JSON, in the last line.
"""

import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path

from lightning_polycom.cli import main
from lightning_polycom.commands import fit  # noqa: F401 - imported before the fork


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_rank(rank: int, port: int, arguments: list[str], environment: dict[str, str]) -> None:
    """One rank as its launcher starts it."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ.update({**where, "WORLD_SIZE": "2", **environment})
    sys.argv = ["polycom", "fit", *arguments]
    main()


if __name__ == "__main__":
    codes = []
    for start in json.loads(Path(sys.argv[1]).read_text()):
        port, context = free_port(), multiprocessing.get_context("fork")
        ranks = [context.Process(target=run_rank, args=(rank, port, *start)) for rank in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        codes.append([process.exitcode for process in ranks])
    print(json.dumps(codes))
