"""A check of the Redis or Valkey server, once at the start of a service.

A server that does not answer is no fault: it may come. A server that answers but can never be the cache is refused:
each look-up would fail, and nothing would tell.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from typing import Any

import redis.asyncio as redis
from redis import exceptions

from headrace_runtime.errors import FailedPrecondition

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
KEPT_MS = 1_000

_PRIMARY = "give the address of the primary, or one that follows it (a service, a proxy)"
_ONE_SERVER = "look-ups ask for many keys at once, so the cache must be one server: " + _PRIMARY
_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "it does not take the user and password of the URL"),
    (exceptions.AuthorizationError, "it does not take the user and password of the URL"),
    (
        exceptions.NoPermissionError,
        "its user needs +ping +get +mget +set on the keys {prefix}*, and +select for a database but 0",
    ),
    (exceptions.ReadOnlyError, f"it is a replica, which takes no values: {_PRIMARY}"),
    (exceptions.MovedError, f"it belongs to a cluster; {_ONE_SERVER}"),
    (exceptions.ClusterCrossSlotError, f"it belongs to a cluster; {_ONE_SERVER}"),
)
_PASSING = (exceptions.BusyLoadingError, exceptions.MasterDownError, exceptions.OutOfMemoryError)
"""Errors that pass by themselves."""


async def check_redis(url: str, prefix: bytes) -> None:
    """Return when a server can hold keys with a prefix, or does not answer now.

    Raises FailedPrecondition with the reason and the way out when it never can.
    """
    client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        _judge(await _info(client), address_of(client))
        await _probe(client, prefix)
    except _PASSING as error:
        logger.warning("the cache at %s takes no values now: %s", address_of(client), error)
    except (exceptions.RedisError, OSError) as error:
        _refuse(error, address_of(client), prefix)
        logger.warning("the cache at %s does not answer now: %r", address_of(client), error)
    finally:
        await client.aclose()


def address_of(client: redis.Redis) -> str:
    """Return where a client connects to, without a password."""
    at: dict[str, Any] = client.connection_pool.connection_kwargs
    return str(at.get("path") or f"{at.get('host', 'localhost')}:{at.get('port', 6379)}")


async def _info(client: redis.Redis) -> dict[str, Any]:
    try:
        return dict(await client.info())
    except exceptions.NoPermissionError:
        return {}  # the probe finds out


async def _probe(client: redis.Redis, prefix: bytes) -> None:
    """Write and read two keys, which a cluster would keep in different slots."""
    keys = [prefix + b"check:1", prefix + b"check:2"]
    for key in keys:
        await client.set(key, b"", px=KEPT_MS)
    await client.mget(keys)


def _judge(info: dict[str, Any], address: str) -> None:
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        raise FailedPrecondition(f"the cache at {address} cannot be used: it is a Sentinel; {_PRIMARY}")
    if info.get("cluster_enabled"):
        raise FailedPrecondition(f"the cache at {address} cannot be used: it belongs to a cluster; {_ONE_SERVER}")
    if info.get("role") == "slave":
        raise FailedPrecondition(f"the cache at {address} cannot be used: it is a replica; {_PRIMARY}")
    if info.get("maxmemory") and info.get("maxmemory_policy") == "noeviction":
        logger.warning(
            "the cache at %s has maxmemory and the policy noeviction: once full it takes no new values until others "
            "end; allkeys-lru makes room instead",
            address,
        )


def _refuse(error: Exception, address: str, prefix: bytes) -> None:
    """Raise FailedPrecondition for an error that does not pass; return for a server that does not answer."""
    reason = next((reason for kind, reason in _REFUSALS if isinstance(error, kind)), "")
    if not reason and isinstance(error, exceptions.ResponseError):
        reason = "it does not do what a cache does"
    if not reason and any(isinstance(cause, ssl.SSLError | FileNotFoundError) for cause in _causes(error)):
        reason = "TLS failed: see ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL, and whether it speaks TLS"
    if reason:
        told = reason.format(prefix=prefix.decode())
        raise FailedPrecondition(f"the cache at {address} cannot be used: {told} ({error})") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
