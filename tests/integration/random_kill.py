"""A callback that kills a run at any moment, in the middle of a step, of a save or of a rename.

KILL is `<seconds after the first step>`, `save:<seconds after a save has begun to write>`, or `slow:` with the same,
where the disk is so slow that training goes on for a while beside the save.
"""

import os
import signal
import threading
import time
from pathlib import Path

import lightning as L


class RandomKill(L.Callback):
    """Sends SIGKILL to all processes of this start, from rank 0, at the moment that KILL says."""

    def on_train_batch_end(self, trainer, *_):
        moment = os.environ.pop("KILL", None)
        if moment and moment.startswith("slow:"):
            flush = os.fsync
            os.fsync = lambda file: time.sleep(0.5) or flush(file)
        if moment and trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "checkpoints"
            threading.Thread(target=_kill, args=(moment, folder), daemon=True).start()


def _kill(moment: str, folder: Path) -> None:
    place, _, seconds = moment.rpartition(":")
    while place and not list(folder.glob(".step-*.tmp")):
        time.sleep(0)
    time.sleep(float(seconds))
    os.killpg(os.getpgid(0), signal.SIGKILL)
