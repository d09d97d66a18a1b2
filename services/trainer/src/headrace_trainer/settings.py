"""What the trainer is told."""

from pathlib import Path

from headrace_runtime.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """Settings of the trainer."""

    work_dir: Path = Field(
        Path(".headrace/trainer"), description="Folder for the assignments of child processes; may be emptied."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts after which a run that keeps breaking is given up.")
