"""What becomes of a run that has ended."""

from lightning_polycom.comparison.command import fit_command
from lightning_polycom.comparison.config import ComparisonConfig
from lightning_polycom.comparison.fairness import is_complete, unfair
from lightning_polycom.comparison.plan import ArmPlan, arm_called
from lightning_polycom.comparison.record import ComparisonRecord, RunEntry


class PlannedRuns:
    """The runs of a comparison whose lengths are known: the command of each, and the judgement at its end."""

    def __init__(self, config: ComparisonConfig, arms: list[ArmPlan], record: ComparisonRecord):
        self.config, self.arms, self.record = config, arms, record

    def command(self, entry: RunEntry) -> list[str]:
        """How a run is started, or goes on."""
        steps = arm_called(self.arms, entry.name).steps
        return fit_command(self.config, entry.key, steps, self.record.folder)

    def unfinished(self) -> list[RunEntry]:
        """The runs that are not finished, in order; those that had failed are tried again."""
        return [entry for entry in self.record.entries if entry.status != "finished"]

    def settle(self, entry: RunEntry) -> None:
        """Marks a run whose process ended well: finished if it may be compared with the others of its seed."""
        problem = self._problem(entry)
        self.record.update(entry, "finished" if problem is None else "failed", problem)

    def _problem(self, entry: RunEntry) -> str | None:
        arm, folder = arm_called(self.arms, entry.name), self.record.run_folder(entry)
        if not is_complete(folder, arm.steps):
            return f"ended before step {arm.steps}, its last one"
        reference = self._reference(entry)
        if reference is None:
            return None
        same_start = arm.starts_like(arm_called(self.arms, reference.name))
        return unfair(folder, self.record.run_folder(reference), same_start)

    def _reference(self, entry: RunEntry) -> RunEntry | None:
        """A finished run of the same seed; the baseline's if there is one."""
        others = [
            other
            for other in self.record.entries
            if other.seed == entry.seed and other is not entry and other.status == "finished"
        ]
        return next((other for other in others if other.name == self.config.baseline), others[0] if others else None)
