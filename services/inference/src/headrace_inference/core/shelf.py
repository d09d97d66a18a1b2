"""The versions that can answer, by model and by the names that clients call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace_runtime.errors import InvalidInput, NotFound, Unavailable

from headrace_inference.core.releases import CachePolicy, Place, Release
from headrace_inference.ports import Model

CHAMPION = "champion"
"""The alias that answers when a call names no version."""

SLOWER_THAN_CACHE_S = 0.0002
"""A look-up in Redis costs the serving process 0.1 to 0.2 ms of its own CPU: a faster model is better asked itself."""

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_DIGEST_PREFIX = re.compile(r"(sha256:)?(?P<hexadecimal>[0-9a-f]{4,64})")


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a model took when it was warmed, in seconds: for one row, and for each row more in a batch."""

    first_row_s: float
    next_row_s: float

    def of(self, rows: int) -> float:
        """Return the seconds that a call of so many rows should take."""
        return self.first_row_s + (rows - 1) * self.next_row_s


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A released version in memory, warm."""

    release: Release
    model: Model
    speed: Speed
    prefix: bytes
    """The part of every answer that is the same, as the transport writes it."""
    cached: bool = field(init=False)
    """Whether hot predictions of it are kept in Redis."""

    def __post_init__(self) -> None:
        policy = self.release.cache
        pays = policy is CachePolicy.REDIS or (
            policy is CachePolicy.AUTO and self.speed.first_row_s > SLOWER_THAN_CACHE_S
        )
        object.__setattr__(self, "cached", pays)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one look at the shelf sees; replaced as a whole, so that a call never meets half a change."""

    models: Mapping[str, Mapping[str, LoadedVersion]]
    """Loaded versions by model, then by alias."""
    announced: frozenset[str]
    """Models that have a release, loaded or not."""
    complete: bool
    """Whether every release that the topic held at the start has been seen."""


class Shelf:
    """Loaded versions. One thread changes it; any thread looks things up."""

    def __init__(self) -> None:
        self._shown = _Shown({}, frozenset(), complete=False)
        self.ready = False
        """Whether everything that was released at the start has been loaded once."""

    @property
    def models(self) -> Mapping[str, Mapping[str, LoadedVersion]]:
        """Loaded versions by model, then by alias."""
        return self._shown.models

    def put(self, loaded: LoadedVersion) -> LoadedVersion | None:
        """Serve a version under its alias; return the one that it replaces."""
        model, alias = loaded.release.place
        aliases = dict(self._shown.models.get(model, {}))
        replaced = aliases.get(alias)
        aliases[alias] = loaded
        self._replace({**self._shown.models, model: aliases})
        return replaced

    def remove(self, place: Place) -> LoadedVersion | None:
        """Serve nothing under an alias any more; return what was there."""
        model, alias = place
        aliases = dict(self._shown.models.get(model, {}))
        removed = aliases.pop(alias, None)
        models = {**self._shown.models, model: aliases}
        self._replace({name: versions for name, versions in models.items() if versions})
        return removed

    def announce(self, models: Iterable[str], *, complete: bool) -> None:
        """Note which models have a release, and whether these are all."""
        self._shown = _Shown(self._shown.models, frozenset(models), complete)

    def _replace(self, models: Mapping[str, Mapping[str, LoadedVersion]]) -> None:
        self._shown = _Shown(models, self._shown.announced, self._shown.complete)

    def resolve(self, model: str, version: str) -> LoadedVersion:
        """Return the version to ask: the champion (""), an ordinal, an alias, or the beginning of a version's digest.

        Raises NotFound for an unknown model or version, Unavailable while the model is released but not loaded, and
        InvalidInput for a version that cannot be the name of one.
        """
        aliases = self._shown.models.get(model)
        if aliases is None:
            raise self._absent(model)
        found = aliases.get(version or CHAMPION)
        return found if found is not None else _search(model, version, aliases)

    def knows(self, model: str) -> bool:
        """Tell whether a model is released and loaded; False while it loads. Raises NotFound for an unknown one."""
        if model in self._shown.models:
            return True
        absent = self._absent(model)
        if isinstance(absent, NotFound):
            raise absent
        return False

    def _absent(self, model: str) -> NotFound | Unavailable:
        shown = self._shown
        if model in shown.announced:
            return Unavailable(f"model {model!r} is released but not loaded yet")
        if not shown.complete:
            return Unavailable(f"model {model!r} is not loaded; the releases are still being read")
        return NotFound(f"model {model!r} is not released; released models: {sorted(shown.announced)}")


def _search(model: str, version: str, aliases: Mapping[str, LoadedVersion]) -> LoadedVersion:
    if version and _VERSION.fullmatch(version) is None:
        raise InvalidInput(f"model {model!r}: expected an ordinal, a digest or an alias as version, got {version!r}")
    for loaded in aliases.values():
        if version == str(loaded.release.ordinal):
            return loaded
    prefix = _DIGEST_PREFIX.fullmatch(version)
    matching = {
        loaded.release.version_id: loaded
        for loaded in aliases.values()
        if prefix and loaded.release.version_id.removeprefix("sha256:").startswith(prefix["hexadecimal"])
    }
    if len(matching) > 1:
        raise InvalidInput(f"model {model!r}: version {version!r} begins more than one digest: {sorted(matching)}")
    for loaded in matching.values():
        return loaded
    served = [f"{loaded.release.ordinal} ({alias})" for alias, loaded in aliases.items()]
    raise NotFound(f"model {model!r} has no version {version or CHAMPION!r} here; served: {', '.join(sorted(served))}")
