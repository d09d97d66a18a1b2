"""Releases: what the registry wants served, and what of it still has to be loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
FIRST_RETRY_OF_UNFIT_S = 60.0
"""A graph on which a trial failed is the same graph the next time: only a busy machine would explain it."""
LAST_RETRY_OF_UNFIT_S = 3600.0
LAST_RETRY_OF_AWAITED_S = 4.0
"""A look costs little, and what it finds is to be served soon."""
TRIES_OF_MISSING = 3
"""After so many, nothing waits for a graph any more that is not in the object store."""


class CachePolicy(StrEnum):
    """Where hot predictions of a model are kept."""

    REDIS = "redis"
    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Graph:
    """The ONNX graph of a variant in the object store: location, `sha256:` digest, size in bytes.

    `beside_bytes` is the size of its weights that lie beside it, each under its own digest; 0 where it holds them.
    """

    uri: str
    digest: str
    size_bytes: int
    beside_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Upstream:
    """Servers outside of replicas that have a model, by the name that `model` makes of `{model}` and `{version}`."""

    urls: tuple[str, ...]
    model: str
    key: str = ""
    """Name of the key that they are asked with; empty for none."""


@dataclass(frozen=True, slots=True)
class CheaperVariant:
    """Another variant of a release's version that passed its gates, and takes less time."""

    variant: str
    graph: Graph


@dataclass(frozen=True, slots=True)
class Release:
    """An alias that moved: serve this variant of this version from now on.

    `epoch` grows with each release of the same model and alias; `ordinal` is the version's number, from 1.
    """

    model: str
    alias: str
    epoch: int
    version_id: str
    ordinal: int
    variant: str
    graph: Graph
    dataset_id: str
    run_id: str
    cache: CachePolicy
    cache_ttl_s: int = 0
    """Seconds that a hot prediction is kept; 0 leaves it to the replica."""
    cheaper: tuple[CheaperVariant, ...] = ()
    """What may answer under overload, each in less time than the one before. Empty where the pipeline allows none."""
    upstream: Upstream | None = None
    """Where it is served, if not by the replica itself."""
    withholds: bool = False
    """Whether calls and answers are told to nobody, as the pipeline has personal fields."""
    records: bool = False
    """Whether an answer waits until it is recorded, as the pipeline's quality is measured live."""

    def answered_by(self, other: CheaperVariant) -> Release:
        """Return the release as it is answered by a cheaper variant."""
        return replace(self, variant=other.variant, graph=other.graph, cheaper=())

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of its graphs, the one that is served first."""
        return (self.graph.digest, *(each.graph.digest for each in self.cheaper))

    @property
    def place(self) -> Place:
        """The model and the alias, which have one release at a time."""
        return (self.model, self.alias)

    def __str__(self) -> str:
        return f"{self.model}@{self.alias} epoch {self.epoch}: version {self.ordinal} {self.variant}"


Place = tuple[str, str]
"""A model and an alias of it."""


class Fault(StrEnum):
    """Why a release did not load."""

    AROUND = "around"
    """Something that the release needs failed, such as the object store."""
    MISSING = "missing"
    """The object store has no such graph, or another one under its name."""
    AWAITED = "awaited"
    """A server outside of the replica is not there, or does not have the model yet."""
    UNFIT = "unfit"
    """The graph itself does not load or answer."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A release that does not load, and the reason of the last failure."""

    release: Release
    reason: str


@dataclass(slots=True)
class _Wanted:
    release: Release
    due_s: float
    loaded: bool = False
    failures: int = 0
    reason: str = ""
    fault: Fault | None = None

    @property
    def settled(self) -> bool:
        """Whether waiting for it any longer promises nothing."""
        given_up = self.fault is Fault.MISSING and self.failures >= TRIES_OF_MISSING
        return self.loaded or given_up or self.fault in (Fault.UNFIT, Fault.AWAITED)


class ReleaseBook:
    """The newest release of each model and alias, and when to load it. Times are seconds of one monotonic clock.

    Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._wanted: dict[Place, _Wanted] = {}
        self._epochs: dict[Place, int] = {}

    def announce(self, release: Release, now_s: float) -> bool:
        """Note a release, to be loaded at once. Returns False for one that is not newer than what was seen before."""
        if release.epoch <= self._epochs.get(release.place, 0):
            return False
        self._epochs[release.place] = release.epoch
        self._wanted[release.place] = _Wanted(release, due_s=now_s)
        return True

    def withdraw(self, place: Place) -> None:
        """Forget a release. Epochs are remembered: an older release still cannot come back."""
        self._wanted.pop(place, None)

    def due(self, now_s: float) -> Release | None:
        """Return a release to load now: of those that failed least often, the one that waits longest.

        So a release that takes all the time it may holds up each later one once at most.
        """
        waiting = [wanted for wanted in self._wanted.values() if not wanted.loaded and wanted.due_s <= now_s]
        return min(waiting, key=lambda wanted: (wanted.failures, wanted.due_s)).release if waiting else None

    def next_due_s(self) -> float | None:
        """Return when the next release is due, None when all are loaded."""
        return min((wanted.due_s for wanted in self._wanted.values() if not wanted.loaded), default=None)

    def wants(self, release: Release) -> bool:
        """Tell whether a release is still the newest of its place."""
        wanted = self._wanted.get(release.place)
        return wanted is not None and wanted.release == release

    def loaded(self, release: Release) -> None:
        """Note that a release is served."""
        if self.wants(release):
            self._wanted[release.place].loaded = True

    def failed(self, release: Release, now_s: float, reason: str, fault: Fault) -> float:
        """Note that a release did not load; return the seconds until it is tried again, twice as many each time."""
        first_s, last_s = FIRST_RETRY_S, LAST_RETRY_S
        if fault is Fault.UNFIT:
            first_s, last_s = FIRST_RETRY_OF_UNFIT_S, LAST_RETRY_OF_UNFIT_S
        elif fault is Fault.AWAITED:
            last_s = LAST_RETRY_OF_AWAITED_S
        if not self.wants(release):
            return first_s
        wanted = self._wanted[release.place]
        wait_s = min(last_s, first_s * 2.0 ** min(wanted.failures, 20))
        wanted.failures += 1
        wanted.due_s = now_s + wait_s
        wanted.reason, wanted.fault = reason, fault
        return wait_s

    def settled(self) -> bool:
        """Tell whether every release is loaded, or will not be for a fault of its own."""
        return all(wanted.settled for wanted in self._wanted.values())

    def failing(self) -> tuple[Failing, ...]:
        """Return the releases that do not load."""
        wanted = self._wanted.values()
        return tuple(Failing(each.release, each.reason) for each in wanted if each.reason and not each.loaded)

    def models(self) -> frozenset[str]:
        """Return the names of all models that have a release."""
        return frozenset(model for model, _ in self._wanted)

    def digests(self) -> set[str]:
        """Return the digests of all graphs that are wanted."""
        return {digest for wanted in self._wanted.values() for digest in wanted.release.digests}
