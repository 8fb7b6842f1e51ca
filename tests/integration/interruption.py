"""A callback that makes one rank signal itself, and steps take time.

SIGNAL_AT is `<rank>:<step>`, in which the rank sends SIGTERM to itself; STEP_SECONDS is what every step waits.
"""

import os
import signal
import time

import lightning as L


class Interruption(L.Callback):
    def on_train_batch_start(self, trainer, *_):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        if os.environ.get("SIGNAL_AT") == f"{trainer.global_rank}:{trainer.global_step}":
            os.kill(os.getpid(), signal.SIGTERM)
