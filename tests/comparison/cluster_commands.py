"""A SLURM that is told what to say: commands of its names, which take jobs and answer, but run nothing."""

import pickle
import stat
from pathlib import Path
from typing import Any

SBATCH = """#!/bin/sh
cd {folder}
if [ -e refusal ]; then cat refusal >&2; exit 1; fi
echo . >> submitted
echo "Submitted batch job $(wc -l < submitted)"
"""
SQUEUE = """#!/bin/sh
cd {folder}
echo . >> asked
number=$(wc -l < asked)
[ -e "answer-$number" ] || number=$(ls answer-* | sed 's/answer-//' | sort -n | tail -n 1)
if grep -q error "answer-$number"; then cat "answer-$number" >&2; exit 1; fi
cat "answer-$number"
"""


class ClusterCommands:
    """sbatch, squeue and srun in a folder that belongs into PATH."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "srun": "#!/bin/sh\nexit 1\n"}.items():
            (folder / name).write_text(text.format(folder=folder))
            (folder / name).chmod(stat.S_IRWXU)

    def answers(self, *answers: str) -> None:
        """What squeue says, each time it is asked; the last of them from then on."""
        for number, answer in enumerate(answers, self.asked + 1):
            (self.folder / f"answer-{number}").write_text(answer.replace(", ", "\n") + "\n")

    def refuse(self, words: str | None) -> None:
        """Takes no job from now on, or takes them again."""
        if words is None:
            (self.folder / "refusal").unlink()
        else:
            (self.folder / "refusal").write_text(words)

    @property
    def submitted(self) -> int:
        """How many jobs were taken; they are numbered from 1."""
        return self._lines("submitted")

    @property
    def asked(self) -> int:
        """How often squeue was asked."""
        return self._lines("asked")

    def _lines(self, name: str) -> int:
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0


def leave_result(jobs: Path, job: int, result: Any, how: str = "success", task: int = 0) -> None:
    """What a process of a job leaves when it is over."""
    jobs.mkdir(parents=True, exist_ok=True)
    (jobs / f"{job}_{task}_result.pkl").write_bytes(pickle.dumps((how, result)))
