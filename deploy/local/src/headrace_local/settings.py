"""Settings of the embedded platform: where it keeps its state and which addresses it takes."""

from __future__ import annotations

import os
from pathlib import Path

from headrace_runtime.services import SERVICES
from headrace_runtime.settings import PREFIX, address
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ADDRESSES = (
    "kafka_address",
    "kafka_controller_address",
    "valkey_address",
    "ingestion_address",
    "registry_address",
    "inference_address",
    "metrics_address",
)


def _listens(service: str) -> str:
    return f"127.0.0.1:{SERVICES[service].grpc_port}"


class PlatformSettings(BaseSettings):
    """What `headrace up` is told. Everything has a default; nothing listens beyond this machine unless told to."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: Path = Field(Path(".headrace"), description="State folder: data, logs, sockets.")
    jar_cache_dir: Path | None = Field(
        None, description="Folder of Kafka's jars, shared by every platform of a user; unset: `~/.cache/headrace`."
    )
    maven_url: str | None = Field(None, description="Maven repository to fetch Kafka's jars from instead of Central.")
    kafka_address: str = Field("127.0.0.1:9092", description="Address of the embedded Kafka.")
    kafka_controller_address: str = Field(
        "127.0.0.1:9093", description="Address of the embedded Kafka's controller, which only Kafka itself calls."
    )
    valkey_address: str = Field("127.0.0.1:6379", description="Address of the embedded Valkey.")
    ingestion_address: str = Field(_listens("ingestion"), description="gRPC address of ingestion.")
    registry_address: str = Field(_listens("model-registry"), description="gRPC address of the model registry.")
    inference_address: str = Field(_listens("inference"), description="gRPC address of inference.")
    rest_address: str = Field("", description="Address of inference's REST, host:port; empty for none.")
    metrics_address: str = Field(
        "127.0.0.1:8002", description="First Prometheus address; each further service takes the next port."
    )
    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka brokers to use instead of the embedded one, host:port, separated by commas."
    )
    redis_url: str | None = Field(None, description="Redis or Valkey to use instead of the embedded one.")
    store_url: str | None = Field(None, description="Object store to use instead of the folder `objects` in the home.")
    kafka_session_timeout_ms: int = Field(
        6_000, ge=1_000, description="Milliseconds without a heartbeat after which a service's partitions move on."
    )
    start_timeout_s: float = Field(
        180.0,
        gt=0,
        description="Seconds without progress after which a start is given up; five times as many in any case.",
    )

    @property
    def jar_cache(self) -> Path:
        """The folder of Kafka's jars."""
        return self.jar_cache_dir or default_cache()

    @field_validator(*ADDRESSES)
    @classmethod
    def _is_address(cls, value: str) -> str:
        return address(value)

    @field_validator("rest_address")
    @classmethod
    def _is_address_or_none(cls, value: str) -> str:
        return value if not value else address(value)

    @field_validator("maven_url", "kafka_bootstrap_servers", "redis_url", "store_url")
    @classmethod
    def _empty_is_unset(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("home", "jar_cache_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else None


def default_cache() -> Path:
    """Return the per-user cache folder: XDG_CACHE_HOME or ~/.cache, then `headrace`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace"


def split_address(value: str) -> tuple[str, int]:
    """Return host and port of host:port."""
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def variable(field: str) -> str:
    """Return the environment variable of a settings field."""
    return PREFIX + field.upper()
