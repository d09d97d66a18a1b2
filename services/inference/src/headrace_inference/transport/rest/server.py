"""The REST port: uvicorn in the event loop of the plane, with the limits and the TLS files of the gRPC port."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

import uvicorn
from headrace_runtime.errors import Unavailable
from headrace_runtime.tls_files import Listening, TlsFiles

from headrace_inference.transport.plane import Plane
from headrace_inference.transport.records.desk import RecordDesk
from headrace_inference.transport.rest.app import Rest
from headrace_inference.transport.rest.beside import Beside
from headrace_inference.transport.rest.caller import Bodies
from headrace_inference.transport.rest.connection import Connection

logger = logging.getLogger(__name__)

IDLE_S = 75
"""Seconds that a connection may stay open without a request."""
GRACE_S = 10
"""Seconds that calls in flight have to end."""
FOLLOW_S = 5.0
"""Seconds between looks at the TLS files."""


@asynccontextmanager
async def serving(
    plane: Plane,
    desk: RecordDesk,
    listening: Listening,
    most_bytes: tuple[int, int],
    draining: Callable[[], bool],
) -> AsyncIterator[int]:
    """Serve REST where `listening` says, in this event loop, until the context is left; gives the port.

    `most_bytes` are those of a body, and those of JSON in it. On leaving, no call is taken any more, and those in
    flight have GRACE_S to end.
    Raises Unavailable when the address cannot be bound.
    """
    beside = Beside()
    config = _config(Rest(plane, desk, _bodies(listening, most_bytes), beside, draining), listening)
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with closing(beside), _bound(listening.address) as bound:
        server.servers = [await _listen(server, bound, listening.limits.handshake_s)]
        tasks = [asyncio.create_task(server.main_loop())]
        if config.ssl is not None and listening.tls is not None:
            tasks.append(asyncio.create_task(_follow(listening.tls, config.ssl)))
        try:
            yield bound.getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.shutdown(sockets=[bound])


def _bodies(listening: Listening, most_bytes: tuple[int, int]) -> Bodies:
    limits = listening.limits
    return Bodies(most_bytes[0], limits.handshake_s, limits.unfinished, most_bytes[1])


def _config(rest: Rest, listening: Listening) -> uvicorn.Config:
    limits = listening.limits

    class Limited(Connection):
        most, head_s = limits.connections, limits.handshake_s

    config = uvicorn.Config(
        rest.app,
        http=Limited,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    config.ssl = None if listening.tls is None else _context(listening.tls)
    return config


async def _listen(server: uvicorn.Server, bound: socket.socket, handshake_s: float) -> asyncio.Server:
    """Listen as uvicorn's `startup` does, which leaves TLS handshakes a minute, and does not count them."""
    config = server.config

    def connection() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=server.server_state, app_state={})  # type: ignore[call-arg]

    limit_s = None if config.ssl is None else handshake_s
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        connection, sock=bound, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=limit_s
    )


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, int(port)), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(f"cannot listen on {address} for REST: {error.strerror or error}") from error
    bound.setblocking(False)
    return bound


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.cert_file, files.key_file, password="")
    if files.client_ca_file is not None:
        context.load_verify_locations(files.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _follow(files: TlsFiles, context: ssl.SSLContext) -> None:
    """Take a rotated certificate and its key for new connections; ones that do not fit are not taken."""
    seen = _state(files)
    while True:
        await asyncio.sleep(FOLLOW_S)
        with suppress(OSError):
            if (state := _state(files)) == seen:
                continue
            seen = state
            try:
                files.check()
                context.load_cert_chain(files.cert_file, files.key_file, password="")
            except (OSError, ValueError) as error:
                logger.warning("the new TLS files are not taken, the ones before stay in force: %s", error)


def _state(files: TlsFiles) -> list[tuple[int, int]]:
    return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in (files.cert_file, files.key_file)]
