"""The versions that can answer, by model and by the names that clients call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace

import numpy as np
from headrace_runtime.errors import InvalidInput, NotFound, Unavailable

from headrace_inference.core.releases import CANDIDATE, CachePolicy, Failing, Place, Release, Stage
from headrace_inference.core.tensors import Array
from headrace_inference.core.worth import Worth
from headrace_inference.ports import Language, Model

CHAMPION = "champion"
"""The alias that answers when a call names no version."""

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_DIGEST_PREFIX = re.compile(r"(sha256:)?(?P<hexadecimal>[0-9a-f]{4,64})")


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a model took when it was warmed, in seconds: for one row, and for each row more in a batch."""

    first_row_s: float
    next_row_s: float
    is_steady: bool = True
    """Whether the number of rows decides; the values do where a graph has control flow."""

    def of(self, rows: int) -> float:
        """Return the seconds that a call of so many rows should take."""
        return self.first_row_s + (rows - 1) * self.next_row_s


class _RowByRow:
    """A model that computes each row of a call by itself."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.signature = model.signature

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Compute the outputs named, in that order."""
        rows = range(len(next(iter(arrays.values()))))
        parts = [
            self._model.run({name: array[row : row + 1] for name, array in arrays.items()}, outputs) for row in rows
        ]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def sample(self) -> Mapping[str, Array]:
        """Return one row that it can answer."""
        return self._model.sample()

    def tokens(self, arrays: Mapping[str, Array]) -> int:
        """Return how many tokens it reads of texts."""
        return self._model.tokens(arrays)


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A released version in memory, warm."""

    release: Release
    model: Model
    speed: Speed
    prefix: bytes
    """The part of every answer that is the same, as the transport writes it."""
    cheaper: tuple[LoadedVersion, ...] = ()
    """Variants of it that may answer under overload, each in less time than the one before."""
    degraded: bool = False
    """Whether it is one of these itself."""
    language: Language | None = None
    """What answers calls of a model of language, piece by piece; None for one of arrays."""
    measured: InitVar[Worth | None] = None
    """What was measured of the same graph before."""
    worth: Worth = field(init=False, compare=False)
    """What a hot prediction of it costs and what it does itself."""

    def __post_init__(self, measured: Worth | None) -> None:
        object.__setattr__(self, "worth", measured or Worth(self.speed.first_row_s))

    @property
    def cached(self) -> bool:
        """Whether hot predictions of it are kept in Redis."""
        policy = self.release.cache
        return policy is CachePolicy.REDIS or (policy is CachePolicy.AUTO and self.worth.pays)

    def with_rows_apart(self) -> LoadedVersion:
        """Return it with answers that are those to each row alone, which a graph may answer otherwise in a batch."""
        if not self.model.signature.depends:
            return self
        speed = replace(self.speed, next_row_s=self.speed.first_row_s)
        return replace(self, model=_RowByRow(self.model), speed=speed, measured=self.worth)


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one model that are in memory."""

    aliases: Mapping[str, LoadedVersion]
    replaced: tuple[LoadedVersion, ...] = ()
    """Served under an alias before, the last one first. They still answer whoever names them."""

    @property
    def all(self) -> tuple[LoadedVersion, ...]:
        """Every version that can answer; those under an alias come first."""
        return (*self.aliases.values(), *self.replaced)

    def serving(self, loaded: LoadedVersion, resident: int) -> Versions:
        """Return these with a version under its alias; of those that no alias names, as many stay as make `resident`.

        Versions under an alias stay however many there are.
        """
        aliases = {**self.aliases, loaded.release.alias: loaded}
        before = self.aliases.get(loaded.release.alias)
        replaced = self.replaced if before is None else (before, *self.replaced)
        kept = {_identity(version): version for version in aliases.values()}
        named = len(kept)
        for version in replaced:
            if len(kept) < resident:
                kept.setdefault(_identity(version), version)
        return Versions(aliases, tuple(kept.values())[named:])


def _identity(loaded: LoadedVersion) -> tuple[str, str]:
    return (loaded.release.version_id, loaded.release.variant)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one look at the shelf sees; replaced as a whole, so that a call never meets half a change."""

    models: Mapping[str, Versions]
    announced: frozenset[str]
    """Models that have a release, loaded or not."""
    complete: bool
    """Whether every release that the topic held at the start has been seen."""
    failing: tuple[Failing, ...] = ()
    candidates: Mapping[str, LoadedVersion] = field(default_factory=dict)
    """What is tried beside the champion, by model."""


class Shelf:
    """Loaded versions; `resident` of each model stay in memory. Changed by one thread at a time, looked at by any."""

    def __init__(self, resident: int = 2) -> None:
        self._resident = resident
        self._shown = _Shown({}, frozenset(), complete=False)
        self.ready = False
        """Whether every release that was there at the start has been loaded once, or has a fault of its own."""

    @property
    def models(self) -> Mapping[str, Versions]:
        """Loaded versions by model."""
        return self._shown.models

    @property
    def all(self) -> Iterator[LoadedVersion]:
        """Every version of every model that can answer."""
        return (version for versions in self._shown.models.values() for version in versions.all)

    @property
    def loading(self) -> frozenset[str]:
        """Models that have a release and no version in memory yet."""
        shown = self._shown
        return shown.announced - shown.models.keys()

    @property
    def candidates(self) -> Mapping[str, LoadedVersion]:
        """What is tried beside a champion, by model; empty most of the time."""
        return self._shown.candidates

    @property
    def failing(self) -> tuple[Failing, ...]:
        """The releases that do not load."""
        return self._shown.failing

    def put(self, loaded: LoadedVersion) -> None:
        """Serve a version under its alias; the one that it replaces stays for a while."""
        model = loaded.release.model
        versions = self._shown.models.get(model, Versions({})).serving(loaded, self._resident)
        self._replace({**self._shown.models, model: versions})

    def holding(self, release: Release) -> LoadedVersion | None:
        """Return a version in memory that has the graphs of a release, None when there is none."""
        if release.upstream is not None:
            return None  # whether a server still has it is to be looked at
        versions = self._shown.models.get(release.model, Versions({})).all
        return next(
            (each for each in versions if each.release.digests == release.digests and each.release.upstream is None),
            None,
        )

    def remove(self, place: Place) -> LoadedVersion | None:
        """Serve nothing under an alias any more; return what was there. A model without aliases is gone."""
        model, alias = place
        versions = self._shown.models.get(model, Versions({}))
        aliases = dict(versions.aliases)
        removed = aliases.pop(alias, None)
        models = {**self._shown.models, model: Versions(aliases, versions.replaced)}
        self._replace({name: each for name, each in models.items() if each.aliases})
        return removed

    def announce(self, models: Iterable[str], *, complete: bool, failing: Iterable[Failing] = ()) -> None:
        """Note which models have a release, whether these are all, and which releases do not load."""
        self._shown = replace(self._shown, announced=frozenset(models), complete=complete, failing=tuple(failing))

    def _replace(self, models: Mapping[str, Versions]) -> None:
        tried = {
            model: versions.aliases[CANDIDATE]
            for model, versions in models.items()
            if CANDIDATE in versions.aliases and CHAMPION in versions.aliases
        }
        candidates = {model: each for model, each in tried.items() if each.release.stage is not Stage.NONE}
        self._shown = replace(self._shown, models=models, candidates=candidates)

    def resolve(self, model: str, version: str) -> LoadedVersion:
        """Return the version to ask: the champion (""), an ordinal, an alias, or the beginning of a version's digest.

        An ordinal or digest also finds a version that was replaced, while it is in memory.

        Raises NotFound for an unknown model or version, Unavailable while the model is released but not loaded, and
        InvalidInput for a version that cannot be the name of one.
        """
        versions = self._shown.models.get(model)
        if versions is None:
            raise self._absent(model)
        found = versions.aliases.get(version or CHAMPION)
        if found is not None:
            return found
        if not version and any(each.release.stage is not Stage.NONE for each in versions.aliases.values()):
            raise self._absent(model)  # the champion beside it is still to be loaded
        try:
            return _search(model, version, versions)
        except NotFound:
            for each in self._shown.failing:
                release = each.release
                if release.model == model and version in (str(release.ordinal), release.alias):
                    told = f"model {model!r}: version {version!r} is released but does not load: {each.reason}"
                    raise Unavailable(told) from None
            raise

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
        for each in shown.failing:
            if each.release.model == model:
                return Unavailable(f"model {model!r} is released but does not load: {each.reason}")
        if model in shown.announced:
            return Unavailable(f"model {model!r} is released but not loaded yet")
        if not shown.complete:
            return Unavailable(f"model {model!r} is not loaded; the releases are still being read")
        return NotFound(f"model {model!r} is not released; released models: {sorted(shown.announced)}")


def _search(model: str, version: str, versions: Versions) -> LoadedVersion:
    if version == "latest":
        raise InvalidInput(
            f"model {model!r}: version 'latest' may mean the one in force or the one made last: leave it empty for "
            f"the former ({CHAMPION}), or give an ordinal, a digest or an alias"
        )
    if version and _VERSION.fullmatch(version) is None:
        raise InvalidInput(f"model {model!r}: expected an ordinal, a digest or an alias as version, got {version!r}")
    for loaded in versions.all:
        if version == str(loaded.release.ordinal):
            return loaded
    prefix = _DIGEST_PREFIX.fullmatch(version)
    matching = {
        loaded.release.version_id: loaded
        for loaded in versions.all
        if prefix and loaded.release.version_id.removeprefix("sha256:").startswith(prefix["hexadecimal"])
    }
    if len(matching) > 1:
        raise InvalidInput(f"model {model!r}: version {version!r} begins more than one digest: {sorted(matching)}")
    for loaded in matching.values():
        return loaded
    served = [f"{loaded.release.ordinal} ({alias})" for alias, loaded in versions.aliases.items()]
    served += [f"{loaded.release.ordinal} (replaced)" for loaded in versions.replaced]
    raise NotFound(f"model {model!r} has no version {version or CHAMPION!r} here; served: {', '.join(sorted(served))}")
