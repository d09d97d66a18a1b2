"""The processes of a platform and their command lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace_runtime.services import ServiceShape

from headrace_local.settings import PlatformSettings, split_address, variable

MARK = "HEADRACE_PLATFORM_ID"
"""Variable in the environment of every process of a platform and of their children, by which strays are found."""

BROKER_GROUP, SERVICE_GROUP = "broker", "services"
"""The groups that a platform starts with; every instance added later is a group of its own, named after it."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process under the supervisor."""

    name: str
    group: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    listens: Mapping[str, str] = field(default_factory=dict)
    """Address by the setting that moves it."""
    stop_wait_s: int = 20


@dataclass(frozen=True, slots=True)
class Connections:
    """What the services of one platform connect to."""

    kafka_bootstrap_servers: str
    redis_url: str
    store_url: str


def connections(settings: PlatformSettings) -> Connections:
    """Return the external broker, cache and store where the settings name them, else the embedded ones."""
    return Connections(
        settings.kafka_bootstrap_servers or settings.kafka_address,
        settings.redis_url or f"redis://{settings.valkey_address}/0",
        settings.store_url or str(settings.home / "objects"),
    )


def service_process(settings: PlatformSettings, shape: ServiceShape) -> Process:
    """Return how a service is started: `python -m headrace_<name>` with its settings in the environment."""
    listen = str(getattr(settings, shape.address_field)) if shape.address_field else None
    return _service(settings, shape, shape.name, "0", (metrics_address(settings, shape), listen))


def further_instance(settings: PlatformSettings, shape: ServiceShape, number: int, free: tuple[int, int]) -> Process:
    """Return how one more instance of a service is started, with these ports for its metrics and its gRPC server."""
    metrics, listen = (f"127.0.0.1:{port}" for port in free)
    name = f"{shape.name}-{number}"
    return _service(settings, shape, name, str(number), (metrics, listen if shape.address_field else None), group=name)


def _service(
    settings: PlatformSettings,
    shape: ServiceShape,
    name: str,
    instance: str,
    addresses: tuple[str, str | None],
    group: str = SERVICE_GROUP,
) -> Process:
    reach = connections(settings)
    metrics, listen = addresses
    environment = {
        "HEADRACE_INSTANCE": instance,
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": reach.kafka_bootstrap_servers,
        "HEADRACE_KAFKA_SESSION_TIMEOUT_MS": str(settings.kafka_session_timeout_ms),
        "HEADRACE_STORE_URL": reach.store_url,
        "HEADRACE_TELEMETRY_DIR": str(settings.home / "telemetry"),
        "HEADRACE_WORK_DIR": str(settings.home / "work" / name),
        "HEADRACE_METRICS_ADDRESS": metrics,
        # One thread for each operator: the services share this machine, and on few cores more threads are slower.
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    listens = {"HEADRACE_METRICS_ADDRESS": metrics}
    if shape.address_field and listen:
        environment["HEADRACE_LISTEN_ADDRESS"] = listen
        listens[variable(shape.address_field)] = listen
    if shape.uses_cache:
        environment |= {"HEADRACE_REDIS_URL": reach.redis_url, **ONE_REPLICA}
        # One more instance, a group of its own, must not take the same port.
        environment["HEADRACE_REST_ADDRESS"] = rest = settings.rest_address if group == SERVICE_GROUP else ""
        listens |= {"HEADRACE_REST_ADDRESS": rest} if rest else {}
    return Process(
        name,
        group,
        (sys.executable, "-m", shape.module),
        environment,
        GRPC_PROTECTION if settings.kafka_bootstrap_servers else (*GRPC_PROTECTION, *KAFKA_SECURITY),
        listens,
    )


ONE_REPLICA: Mapping[str, str] = {
    # Everything shares one machine here: a busy moment must not look like a cache that is down.
    "HEADRACE_REDIS_TIMEOUT_MS": "200",
    # Every prediction can be looked up here; a busy replica in production records a share of them.
    "HEADRACE_TRACE_SAMPLE_RATIO": "1",
    # Callers have nowhere to move on to.
    "HEADRACE_DRAIN_S": "0",
}
"""What inference is told of its being the only replica, beside everything else on a machine."""

GRPC_PROTECTION = (
    "HEADRACE_GRPC_TLS_CERT_FILE",
    "HEADRACE_GRPC_TLS_KEY_FILE",
    "HEADRACE_GRPC_TLS_CLIENT_CA_FILE",
    "HEADRACE_HEALTH_ADDRESS",
)
"""Settings of gRPC ports that others can reach; the embedded services answer in plain text on the loopback."""

KAFKA_SECURITY = tuple(
    f"HEADRACE_KAFKA_{name}"
    for name in (
        "SECURITY_PROTOCOL",
        "SASL_MECHANISM",
        "SASL_USERNAME",
        "SASL_PASSWORD",
        "SSL_CAFILE",
        "SSL_CERTFILE",
        "SSL_KEYFILE",
    )
)
"""Settings for an external Kafka; the embedded one speaks plain text on the loopback."""


def metrics_address(settings: PlatformSettings, shape: ServiceShape) -> str:
    """Return a service's Prometheus address."""
    host, first = split_address(settings.metrics_address)
    return f"{host}:{first + shape.metrics_offset}"


def valkey_process(settings: PlatformSettings, binary: Path) -> Process:
    """Return how Valkey is started: a cache, so it writes nothing and drops what is used least."""
    host, port = split_address(settings.valkey_address)
    options = {
        "bind": host,
        "port": str(port),
        "dir": str(settings.home / "valkey"),
        "save": "",
        "appendonly": "no",
        "maxmemory": "128mb",
        "maxmemory-policy": "allkeys-lru",
        # A title would be written over the environment, where the mark stands.
        "set-proc-title": "no",
    }
    arguments = tuple(part for name, value in options.items() for part in (f"--{name}", value))
    return Process(
        "valkey",
        BROKER_GROUP,
        (str(binary), *arguments),
        listens={variable("valkey_address"): settings.valkey_address},
    )
