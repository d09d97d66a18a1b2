"""Which URLs of a Redis or Valkey server are taken; what they lead to is tested on real servers."""

from __future__ import annotations

import pytest
from headrace_runtime.cache.redis_cache import RedisCache
from headrace_runtime.cache.redis_url import client_url
from headrace_runtime.errors import InvalidInput


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://cache",
        "redis://[::1]:6379/2",
        "rediss://user:p%2Fw@cache:6380/1?ssl_ca_certs=/etc/ca.crt&ssl_check_hostname=false&ssl_cert_reqs=none",
        "unix:///run/valkey.sock?db=1&username=u&password=p",
    ],
)
def test_what_works_is_left_as_it_is(url: str) -> None:
    assert client_url(url) == url


def test_valkey_has_schemes_of_its_own() -> None:
    assert client_url("valkey://cache:6379/1") == "redis://cache:6379/1"
    assert client_url("valkeys://cache/?ssl_ca_certs=/ca") == "rediss://cache/?ssl_ca_certs=/ca"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://h?decode_responses=true", "unknown option 'decode_responses'; expected one of db, username"),
        ("redis://h?foo=1", "unknown option 'foo'"),
        ("redis://h?foo=", "unknown option 'foo'"),
        ("redis://h?db=1&socket_timeout=5", "unknown option 'socket_timeout'"),
        ("redis://h?ssl_cert_reqs=none", "option ssl_cert_reqs is for rediss://, got redis://"),
        ("unix:///s?ssl_ca_certs=/ca", "option ssl_ca_certs is for rediss://, got unix://"),
        ("rediss://h?bad=1", "unknown option 'bad'; expected one of .*ssl_ca_certs"),
        ("rediss://h?ssl_ca_certs=", "option ssl_ca_certs: expected a value"),
        ("rediss://h?ssl_cert_reqs=never", "option ssl_cert_reqs: expected none or optional or required"),
        ("rediss://h?ssl_check_hostname=1", "option ssl_check_hostname: expected true or false"),
        ("redis://h?db=one", "Invalid value for 'db'"),
        ("redis://h/cache", "expected the number of a database as path"),
        ("redis://h:port", "the port is a number"),
        ("redis://h:99999", "the port is a number"),
        ("redis://user:sec/ret@h", "percent-encoded"),
        ("redis://[::1", "percent-encoded"),
    ],
)
def test_what_cannot_work_is_refused_at_once_and_named(url: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=f"Redis URL: .*{told}") as caught:
        RedisCache(url, prefix=b"test:", ttl_s=1.0)
    assert "sec" not in str(caught.value)
