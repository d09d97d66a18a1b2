"""What the preprocessing service is told."""

from __future__ import annotations

from pathlib import Path

from headrace_runtime.settings import RegistrySettings, ServiceSettings
from pydantic import Field


class Settings(RegistrySettings, ServiceSettings):
    """Settings of the preprocessing service."""

    poll_batches: int = Field(16, ge=1, description="Most record batches that one transaction takes from a raw topic.")
    personal_keys_dir: Path | None = Field(
        None,
        description="Folder with a file for each key of personal fields, as ingestion's: backfills and rebuilds treat "
        "them, too.",
    )
    stall_s: float = Field(
        60.0, gt=0, description="Seconds without progress after which reading a range for a dataset is given up."
    )
