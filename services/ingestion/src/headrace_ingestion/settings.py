"""What the ingestion service is told."""

from __future__ import annotations

from pathlib import Path

from headrace_runtime.settings import GrpcSettings, RegistrySettings
from pydantic import Field


class Settings(RegistrySettings, GrpcSettings):
    """Settings of the ingestion service."""

    listen_address: str = Field("127.0.0.1:7010", description="Address of the gRPC server, host:port.")
    max_message_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, description="Largest gRPC message that Push takes, in bytes."
    )
    push_waiting_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1,
        description="Most bytes of pushed batches that wait, of each pipeline; further ones are "
        "RESOURCE_EXHAUSTED, and are told when to come again.",
    )
    batch_bytes: int = Field(
        900_000,
        ge=1024,
        le=7_000_000,
        description="Size at which a record batch is closed, in bytes before compression.",
    )
    max_record_bytes: int = Field(
        1_048_576,
        ge=1,
        le=8 * 1024 * 1024,
        description="Largest record, in bytes; a larger one is rejected unread. So is one whose row takes more than "
        "7,000,000. The topic has a limit of its own, `max.message.bytes`.",
    )
    personal_keys_dir: Path | None = Field(
        None,
        description="Folder with a file for each key of personal fields, by the name that `stream.personal.key` has; "
        "its pipelines wait while the file is not there. Read when a pipeline begins.",
    )
    poll_records: int = Field(
        10_000, ge=1, description="Most records that one transaction takes from the producers' topic."
    )
