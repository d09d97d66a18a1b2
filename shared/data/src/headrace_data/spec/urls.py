"""Addresses of servers."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

import pydantic

URL: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_EXPECTED_URL: Final = "expected http:// or https://, a host, and a port and a path where there are any"


def _url(value: str) -> str:
    if not URL.fullmatch(value) or ".." in value:
        raise ValueError(_EXPECTED_URL)
    try:
        parts = urlsplit(value)
        fits = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(_EXPECTED_URL)
    return value


Url = Annotated[
    str, pydantic.AfterValidator(_url), pydantic.WithJsonSchema({"type": "string", "pattern": f"^{URL.pattern}$"})
]
"""The base address of a server."""
