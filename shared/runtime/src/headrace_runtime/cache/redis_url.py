"""The URL of a Redis or Valkey server: which options it may have.

redis-py hands every option on to its connections: one that they do not know fails when the first is made, and one such
as `decode_responses` changes what they answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import parse_qsl, urlsplit

from headrace_runtime.errors import InvalidInput

_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
"""Other names of schemes."""
_OPTIONS = ("db", "username", "password", "client_name")
_TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_check_hostname",
    "ssl_cert_reqs",
)
_VALUES: dict[str, Collection[str]] = {
    "ssl_check_hostname": ("true", "false"),
    "ssl_cert_reqs": ("none", "optional", "required"),
}
"""The values of options that have few."""


def client_url(url: str) -> str:
    """Return the URL as redis-py takes it.

    Raises InvalidInput, which names the option at fault and never a value: that may be a password.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looked at here, because its error quotes a password with a slash in it
    except ValueError:
        raise InvalidInput(
            "Redis URL: expected scheme://user:password@host:port/database, where / @ : ? # of a password are "
            "percent-encoded and the port is a number"
        ) from None
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    if scheme in ("redis", "rediss") and parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise InvalidInput("Redis URL: expected the number of a database as path")
    _check_options(parse_qsl(parts.query, keep_blank_values=True), scheme)
    return url if scheme == parts.scheme else scheme + url[url.index(":") :]


def _check_options(options: Iterable[tuple[str, str]], scheme: str) -> None:
    for name, value in options:
        if name in _TLS_OPTIONS and scheme != "rediss":
            raise InvalidInput(f"Redis URL: option {name} is for rediss://, got {scheme}://")
        if name not in (*_OPTIONS, *_TLS_OPTIONS):
            known = ", ".join((*_OPTIONS, *(_TLS_OPTIONS if scheme == "rediss" else ())))
            raise InvalidInput(f"Redis URL: unknown option {name!r}; expected one of {known}")
        if not value or value not in _VALUES.get(name, (value,)):
            raise InvalidInput(f"Redis URL: option {name}: expected {' or '.join(_VALUES.get(name, ('a value',)))}")
