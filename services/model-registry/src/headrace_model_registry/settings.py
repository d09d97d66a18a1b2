"""What the model registry is told."""

from pathlib import Path

from headrace_runtime.settings import GrpcSettings
from pydantic import Field


class Settings(GrpcSettings):
    """Settings of the model registry."""

    listen_address: str = Field("127.0.0.1:7020", description="Address of the gRPC server, host:port.")
    new_topic_partitions: int = Field(
        3, ge=1, description="Partitions of a producers' topic that `headrace apply --create-topic` creates."
    )
    skip_log_offsets: str = Field(
        "",
        pattern=r"^(\d+(,\d+)*)?$",
        description="Offsets of the registry's log, separated by commas, that hold no entry and are passed over: "
        "those that the registry names when it refuses to start.",
    )
    accept_log_breaks_until: int = Field(
        -1,
        ge=-1,
        description="Offset of the registry's log up to which a broken chain is accepted: the one that the registry "
        "names when it refuses to start. A break after it stops the start all the same; -1 accepts none.",
    )
    signing_key_file: Path | None = Field(
        None,
        description="Ed25519 private key (PEM, PKCS #8, without a password) that heads of the log and proofs are "
        "signed with; unsigned when unset.",
    )
    gc_grace_s: float = Field(
        86_400.0,
        ge=0,
        description="How long an object stays at least (seconds) after it was written or put, whatever `headrace gc` "
        "finds: longer than the longest cut, and than a run takes from its first result to its fact.",
    )

    def skipped(self) -> frozenset[int]:
        """Return the offsets of the log that are passed over."""
        return frozenset(int(offset) for offset in self.skip_log_offsets.split(",") if offset)
