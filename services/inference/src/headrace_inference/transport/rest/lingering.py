"""The end of a connection whose caller is still sending: he has to come to read why."""

from __future__ import annotations

import asyncio
from typing import Any

LINGER_S = 1.0
LINGER_BYTES = 1024 * 1024
"""How long, and how much, is read of a request that was answered before it had arrived."""


class Lingering:
    """A transport. Closed while a request is arriving, it ends what is written, and reads on a while in vain.

    A socket that is closed with bytes unread is reset, and its peer may lose what it was sent before.
    See RFC 9112, section 9.6.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._left_bytes = LINGER_BYTES
        self.arriving = False
        """Whether a request has begun to arrive, and has not ended."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, unless it was closed."""
        if self._timer is None:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether it is closed, or reads on in vain."""
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close it, once its peer has had time to read what was written."""
        if self.is_closing():
            return
        if not self.arriving:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._timer = self._loop.call_later(LINGER_S, self._transport.close)

    def close_now(self) -> None:
        """Close it once what was written is sent."""
        self._transport.close()

    def discard(self, data: bytes) -> None:
        """Take what came in vain."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.close()

    def lost(self) -> None:
        """Wait no longer: it is closed."""
        if self._timer is not None:
            self._timer.cancel()
