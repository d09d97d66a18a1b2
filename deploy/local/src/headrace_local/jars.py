"""Kafka's jars: exactly those of jgo.lock.toml, fetched from Maven Central by jgo and kept in the user's cache folder.

The lock is written by jgo (`scripts/lock_jars.py`). Fetching goes by the lock alone: nothing is resolved again, each
jar must have the locked SHA-256, and a complete cache needs no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headrace_local.errors import Unsupported
from headrace_local.settings import PlatformSettings

LOCK = Path(__file__).with_name("jgo.lock.toml")
PARALLEL_DOWNLOADS = 8
DOWNLOAD_TIMEOUT_S = 30
SIZE_MB = 44


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The jar's file name, as Maven names it."""
        return f"{self.artifact}-{self.version}.jar"


class JarCache:
    """The jars of one lock in one cache folder."""

    def __init__(self, cache: Path, repository: str | None = None, lock: Path = LOCK) -> None:
        """Take the URL of a Maven repository to use instead of Maven Central."""
        self._cache = cache
        self._repository = repository
        self._lock = lock

    @cached_property
    def jars(self) -> tuple[Jar, ...]:
        """The locked jars, in the lock's order."""
        document = tomllib.loads(self._lock.read_text())
        return tuple(
            Jar(item["groupId"], item["artifactId"], item["version"], item["sha256"])
            for item in document["dependencies"]
        )

    @cached_property
    def folder(self) -> Path:
        """The folder of the verified jars; its name changes with the lock."""
        digest = hashlib.sha256("\n".join(f"{jar.file_name} {jar.sha256}" for jar in self.jars).encode())
        return self._cache / f"kafka-jars-{digest.hexdigest()[:16]}"

    def is_complete(self) -> bool:
        """Tell whether every jar is there: then nothing is fetched."""
        return all((self.folder / jar.file_name).is_file() for jar in self.jars)

    def class_path(self, progress: Callable[[str], None]) -> str:
        """Return Java's class path, fetching what is missing. Raises Unsupported when that fails."""
        if not self.is_complete():
            with self._alone():
                if not self.is_complete():
                    progress(f"fetching {len(self.jars)} jars of Apache Kafka ({SIZE_MB} MB) into {self._cache}")
                    self._fetch()
        return ":".join(str(self.folder / jar.file_name) for jar in self.jars)

    def _fetch(self) -> None:
        # Imported here: a platform whose jars are cached neither needs jgo nor waits for its import.
        from jgo.maven import MavenContext

        remotes = {"mirror": self._repository} if self._repository else None
        context = MavenContext(repo_cache=self._cache / "maven", remote_repos=remotes, timeout=DOWNLOAD_TIMEOUT_S)

        def fetch(jar: Jar) -> Path:
            return self._verified(jar, lambda: context.project(jar.group, jar.artifact).at_version(jar.version))

        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            found = list(pool.map(fetch, self.jars))
        with tempfile.TemporaryDirectory(dir=self._cache, prefix="partial-") as temporary:
            partial = Path(temporary) / "jars"
            partial.mkdir()
            for path in found:
                shutil.move(path, partial / path.name)
            shutil.rmtree(self.folder, ignore_errors=True)
            partial.rename(self.folder)
        shutil.rmtree(self._cache / "maven", ignore_errors=True)

    def _verified(self, jar: Jar, component: Callable[[], object]) -> Path:
        """Return the path of a jar that has the locked digest; a leftover that has not is fetched again once."""
        actual = ""
        for _ in range(2):
            try:
                path = Path(component().artifact().resolve())  # type: ignore[attr-defined]
            except Exception as error:
                raise Unsupported(
                    f"{jar.group}:{jar.artifact}:{jar.version} cannot be fetched from {self._source}: {error}"
                ) from error
            actual = hashlib.sha256(path.read_bytes()).hexdigest()
            if actual == jar.sha256:
                return path
            path.unlink()
        raise Unsupported(
            f"{jar.group}:{jar.artifact}:{jar.version} from {self._source} has sha256 {actual}, "
            f"{self._lock.name} says {jar.sha256}"
        )

    @property
    def _source(self) -> str:
        return self._repository or "Maven Central"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time fetch into this cache."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def jar_cache(settings: PlatformSettings) -> JarCache:
    """Return the cache that the settings name."""
    return JarCache(settings.jar_cache, settings.maven_url)
