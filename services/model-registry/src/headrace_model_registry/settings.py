"""What the model registry is told."""

from headrace_runtime.settings import ServiceSettings, address
from pydantic import Field, field_validator


class Settings(ServiceSettings):
    """Settings of the model registry."""

    listen_address: str = Field("127.0.0.1:7020", description="Address of the gRPC server, host:port.")
    new_topic_partitions: int = Field(
        3, ge=1, description="Partitions of a producers' topic that `headrace apply --create-topic` creates."
    )

    @field_validator("listen_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return address(value)
