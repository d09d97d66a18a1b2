"""The locked jars: complete, verified, fetched once."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from headrace_local.errors import Unsupported
from headrace_local.jars import LOCK, JarCache

CONTENT = b"not much of a jar"


class Repository(http.server.SimpleHTTPRequestHandler):
    """A Maven repository that counts what is asked of it."""

    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """URL of a repository with the one jar `org.example:wheel:1.0`, and what was asked of it."""
    folder = tmp_path / "repository" / "org" / "example" / "wheel" / "1.0"
    folder.mkdir(parents=True)
    (folder / "wheel-1.0.jar").write_bytes(CONTENT)

    class Counting(Repository):
        asked: ClassVar[list[str]] = []

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Counting, directory=str(tmp_path / "repository"))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Counting.asked
    server.shutdown()
    thread.join()
    server.server_close()


def write_lock(path: Path, sha256: str) -> Path:
    path.write_text(
        '[[dependencies]]\ngroupId = "org.example"\nartifactId = "wheel"\nversion = "1.0"\n'
        f'packaging = "jar"\nsha256 = "{sha256}"\n'
    )
    return path


def test_the_lock_holds_kafka_and_one_log_binding_each_with_its_digest() -> None:
    jars = JarCache(Path("/nonexistent")).jars
    names = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in jars}
    assert {"org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36"} <= names
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert len({jar.file_name for jar in jars}) == len(jars)


def test_the_lock_belongs_to_the_specification() -> None:
    specification = LOCK.with_name("jgo.toml").read_bytes()
    assert f'spec_hash = "{hashlib.sha256(specification).hexdigest()[:16]}"' in LOCK.read_text()


def test_jars_are_fetched_once(tmp_path: Path, repository: tuple[str, list[str]]) -> None:
    url, asked = repository
    lock = write_lock(tmp_path / "lock.toml", hashlib.sha256(CONTENT).hexdigest())
    said: list[str] = []
    first = JarCache(tmp_path / "cache", url, lock).class_path(said.append)
    assert Path(first).read_bytes() == CONTENT
    assert len(said) == 1
    asked.clear()
    assert JarCache(tmp_path / "cache", url, lock).class_path(said.append) == first
    assert (asked, len(said)) == ([], 1)


def test_a_truncated_leftover_is_fetched_again(tmp_path: Path, repository: tuple[str, list[str]]) -> None:
    lock = write_lock(tmp_path / "lock.toml", hashlib.sha256(CONTENT).hexdigest())
    leftover = tmp_path / "cache" / "maven" / "org" / "example" / "wheel" / "1.0" / "wheel-1.0.jar"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(CONTENT[:5])
    path = JarCache(tmp_path / "cache", repository[0], lock).class_path(lambda _: None)
    assert Path(path).read_bytes() == CONTENT


def test_a_jar_with_another_digest_is_refused(tmp_path: Path, repository: tuple[str, list[str]]) -> None:
    cache = JarCache(tmp_path / "cache", repository[0], write_lock(tmp_path / "lock.toml", "0" * 64))
    with pytest.raises(Unsupported, match=r"org\.example:wheel:1\.0 .* has sha256 .* lock\.toml says 000"):
        cache.class_path(lambda _: None)
    assert not cache.is_complete()


def test_an_unreachable_repository_is_named(tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "lock.toml", "0" * 64)
    cache = JarCache(tmp_path / "cache", "http://127.0.0.1:9", lock)
    with pytest.raises(Unsupported, match=r"cannot be fetched from http://127\.0\.0\.1:9"):
        cache.class_path(lambda _: None)
