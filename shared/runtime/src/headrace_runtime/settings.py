"""Settings: one frozen object for each service, read once from the environment.

Every variable starts with HEADRACE_; the field `store_url` is read from HEADRACE_STORE_URL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.known_sockets import KnownSockets
from headrace_runtime.schema_registry import RegistryAccess
from headrace_runtime.tls_files import Limits, Listening, TlsFiles, check_certificates, check_key

PREFIX = "HEADRACE_"


class KafkaSettings(BaseSettings):
    """How to reach Kafka; the TLS and SASL settings are passed to the client as they are."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, separated by commas.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism; needed when the protocol is SASL_*."
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user name.")
    kafka_sasl_password: str | None = Field(None, description="SASL password.", repr=False)
    kafka_ssl_cafile: Path | None = Field(
        None, description="CA certificates (PEM) that the brokers are checked against."
    )
    kafka_ssl_certfile: Path | None = Field(None, description="Client certificate (PEM) for mutual TLS.")
    kafka_ssl_keyfile: Path | None = Field(None, description="Private key (PEM) of the client certificate.")
    kafka_session_timeout_ms: int = Field(
        45_000, ge=1_000, description="Milliseconds without a heartbeat after which a consumer's partitions move on."
    )
    kafka_stall_s: float = Field(
        60.0, gt=0, description="Seconds after which a consumer that is behind and does not move ends its process."
    )

    def kafka_client(self) -> dict[str, Any]:
        """Return the keyword arguments that every kafka-python client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap_servers.split(","),
            "security_protocol": self.kafka_security_protocol,
            "reconnect_backoff_max_ms": 1_000,
            "selector": KnownSockets,
        }
        optional = {
            "sasl_mechanism": self.kafka_sasl_mechanism,
            "sasl_plain_username": self.kafka_sasl_username,
            "sasl_plain_password": self.kafka_sasl_password,
            "ssl_cafile": self.kafka_ssl_cafile and str(self.kafka_ssl_cafile),
            "ssl_certfile": self.kafka_ssl_certfile and str(self.kafka_ssl_certfile),
            "ssl_keyfile": self.kafka_ssl_keyfile and str(self.kafka_ssl_keyfile),
        }
        return options | {key: value for key, value in optional.items() if value is not None}


class TelemetrySettings(BaseSettings):
    """Where spans, metrics and logs go."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    telemetry_dir: Path | None = Field(None, description="Folder for spans as JSON lines; no files when unset.")
    otlp_endpoint: str | None = Field(None, description="OTLP gRPC endpoint for spans, such as http://collector:4317.")
    trace_sample_ratio: float = Field(
        1.0, ge=0.0, le=1.0, description="Share of new traces that are recorded; a caller's decision is kept."
    )
    metrics_address: str = Field(
        "127.0.0.1:8002", description="Address of the Prometheus endpoint, host:port; empty turns it off."
    )
    hold_dir: Path | None = Field(
        None,
        description="Fault injection, for tests only: folder of the points at which a process waits to be killed.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")

    @field_validator("metrics_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return value if not value else address(value)


class ServiceSettings(KafkaSettings, TelemetrySettings):
    """What every service is told."""

    instance: str = Field(
        "0", min_length=1, description="Name of this instance, unique among those of the same service."
    )
    store_url: str = Field(".headrace/objects", min_length=1, description="Object store: a folder or an fsspec URL.")


class RegistrySettings(BaseSettings):
    """What a service that reads producers' records is told of schema registries."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    schema_registry_hosts: str = Field(
        "",
        description="Schema registries that pipelines may name as `stream.format.registry.url`, each host:port, "
        "separated by commas; empty for none.",
    )
    schema_registry_keys_dir: Path | None = Field(
        None,
        description="Folder with a file for each key of these registries, by the name that "
        "`stream.format.registry.key` has. Read for each request, so that a key may be replaced.",
    )

    @field_validator("schema_registry_hosts")
    @classmethod
    def _are_registries(cls, value: str) -> str:
        for each in filter(None, value.split(",")):
            address(each.strip())
        return value

    @property
    def registry_access(self) -> RegistryAccess:
        """Which schema registries may be asked, and with what."""
        hosts = frozenset(each.strip().lower() for each in self.schema_registry_hosts.split(",") if each.strip())
        return RegistryAccess(hosts, self.schema_registry_keys_dir)


class GrpcSettings(ServiceSettings):
    """What a service that answers gRPC is told."""

    listen_address: str = Field("127.0.0.1:0", description="Address of the gRPC server, host:port.")
    grpc_tls_cert_file: Path | None = Field(
        None, description="Certificate chain (PEM) of the gRPC server: callers must then use TLS."
    )
    grpc_tls_key_file: Path | None = Field(
        None, validate_default=True, description="Private key (PEM, no password) of that certificate."
    )
    grpc_tls_client_ca_file: Path | None = Field(
        None, description="CA certificates (PEM): callers must then show a certificate from one of them (mutual TLS)."
    )
    health_address: str = Field(
        "",
        description="Second address, host:port, that answers gRPC health and nothing else, without TLS: "
        "for probes that cannot speak it; empty for none.",
    )

    least_ping_interval_s: float = Field(
        1.0,
        gt=0,
        description="Seconds that clients leave between two keepalive pings at least; a connection that pings more "
        "often is closed.",
    )
    max_connections: int = Field(
        1000, ge=1, description="Connections that the gRPC server holds at a time; further ones are closed at once."
    )
    max_calls_per_connection: int = Field(
        10_000, ge=1, description="Calls that one connection may have at a time; clients hold further ones back."
    )
    max_unfinished_messages: int = Field(
        64,
        ge=1,
        description="Messages that may arrive at the same time; of more, the oldest that is 0.1 s old is "
        "RESOURCE_EXHAUSTED. Times the largest message, this is what calls with one request can make the server hold.",
    )
    max_request_streams: int = Field(
        64,
        ge=1,
        description="Calls with a stream of requests that may be open at the same time; a further one is "
        "RESOURCE_EXHAUSTED, or ends one that sent nothing for 10 s. Times the largest message, this is what such "
        "calls can make the server hold.",
    )
    handshake_timeout_s: float = Field(
        20.0, gt=0, description="Seconds that a new connection may take until it speaks TLS and HTTP/2."
    )

    @field_validator("listen_address")
    @classmethod
    def _listens_somewhere(cls, value: str) -> str:
        return address(value)

    @field_validator("health_address")
    @classmethod
    def _answers_somewhere(cls, value: str) -> str:
        return value if not value else address(value)

    @field_validator("grpc_tls_cert_file", "grpc_tls_client_ca_file")
    @classmethod
    def _holds_certificates(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            check_certificates(value)
            if info.field_name == "grpc_tls_client_ca_file" and info.data.get("grpc_tls_cert_file", value) is None:
                raise ValueError(f"expected {PREFIX}GRPC_TLS_CERT_FILE beside it: there is no mutual TLS without TLS")
        return value

    @field_validator("grpc_tls_key_file")
    @classmethod
    def _is_the_certificates_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        # A certificate that is bad itself is not here: its own problem is reported beside this one.
        certificate = info.data.get("grpc_tls_cert_file")
        if value is not None:
            if certificate is None and "grpc_tls_cert_file" in info.data:
                raise ValueError(f"expected {PREFIX}GRPC_TLS_CERT_FILE beside it: a key alone protects nothing")
            check_key(certificate, value)
        elif certificate is not None:
            raise ValueError(f"expected the private key of {certificate}")
        return value

    def listening(self) -> Listening:
        """Return where the gRPC server listens, and how it is protected."""
        tls = None
        if self.grpc_tls_cert_file is not None and self.grpc_tls_key_file is not None:
            tls = TlsFiles(self.grpc_tls_cert_file, self.grpc_tls_key_file, self.grpc_tls_client_ca_file)
        limits = Limits(
            self.max_connections,
            self.max_calls_per_connection,
            self.max_unfinished_messages,
            self.handshake_timeout_s,
            self.max_request_streams,
        )
        return Listening(
            self.listen_address,
            tls,
            self.health_address,
            least_ping_interval_s=self.least_ping_interval_s,
            limits=limits,
        )


class WorkerSettings(ServiceSettings):
    """What a service that runs child processes is told."""

    work_dir: Path = Field(
        Path(".headrace/work"), description="Folder for the assignments of child processes; may be emptied."
    )
    max_failures: int = Field(
        3,
        ge=1,
        description="Failed attempts without a newer checkpoint after which a run is given up; interrupted ones do not "
        "count.",
    )
    max_deaths: int = Field(
        5,
        ge=1,
        description="Attempts without a newer checkpoint that died together with their worker, as of too little "
        "memory, after which a run is given up.",
    )
    standby: bool = Field(
        True, description="Whether a child process waits with everything imported, so that a run begins at once."
    )


def address(value: str) -> str:
    """Return value when it is host:port with a port from 0 to 65535, else raise ValueError."""
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"expected host:port with a port from 0 to 65535, got {value!r}")
    return value


Settings = TypeVar("Settings", bound=BaseSettings)


def load_settings(settings_class: type[Settings]) -> Settings:
    """Read the environment. Raises SettingsInvalid that names every bad variable at once."""
    try:
        return settings_class()
    except ValidationError as error:
        raise SettingsInvalid([_problem(item) for item in error.errors()]) from error


def _problem(item: ErrorDetails) -> str:
    """Return in one line which variable is bad, what was expected of it and what came."""
    variable = f"{PREFIX}{'_'.join(str(part) for part in item['loc']).upper()}"
    # Pydantic puts its own words before what a validator here says, which may name what came already.
    reason, got = item["msg"].removeprefix("Value error, "), repr(item.get("input"))
    return f"{variable}: {reason}" if reason.endswith(f"got {got}") else f"{variable}: {reason} (got {got})"


def settings_table(settings_class: type[BaseSettings]) -> str:
    """Return the Markdown table of a settings class: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in settings_class.model_fields.items():
        unset = field.default is None or field.default == ""
        default = "required" if field.is_required() else "unset" if unset else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
