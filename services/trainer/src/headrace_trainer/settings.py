"""What the trainer is told."""

from headrace_runtime.settings import WorkerSettings
from pydantic import Field


class Settings(WorkerSettings):
    """Settings of the trainer."""

    checkpoint_s: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between two checkpoints of a training run, also within an epoch; 0 for one after each "
        "epoch. The last state is always kept.",
    )
