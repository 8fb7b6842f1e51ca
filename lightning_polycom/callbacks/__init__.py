"""One concern per callback."""

from lightning_polycom.callbacks.activation_probe import ActivationProbe
from lightning_polycom.callbacks.coefficients import Coefficients
from lightning_polycom.callbacks.downstream_evaluation import DownstreamEvaluation
from lightning_polycom.callbacks.energy import Energy
from lightning_polycom.callbacks.expert_load import ExpertLoad
from lightning_polycom.callbacks.initial_digest import InitialDigest
from lightning_polycom.callbacks.preemption import Preemption
from lightning_polycom.callbacks.progress import StepProgress
from lightning_polycom.callbacks.run_record import RunRecord
from lightning_polycom.callbacks.run_summary import RunSummary
from lightning_polycom.callbacks.skipped_steps import SkippedSteps
from lightning_polycom.callbacks.step_checkpoint import StepCheckpoint
from lightning_polycom.callbacks.tensorboard_layout import TensorBoardLayout
from lightning_polycom.callbacks.throughput import Throughput
from lightning_polycom.callbacks.token_stream import TokenStream

__all__ = [
    "ActivationProbe",
    "Coefficients",
    "DownstreamEvaluation",
    "Energy",
    "ExpertLoad",
    "InitialDigest",
    "Preemption",
    "RunRecord",
    "RunSummary",
    "SkippedSteps",
    "StepCheckpoint",
    "StepProgress",
    "TensorBoardLayout",
    "Throughput",
    "TokenStream",
]
