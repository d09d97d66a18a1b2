"""Which release a rollback goes back to."""

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import CHAMPION
from headrace_model_registry.core.records import Release, VersionState
from headrace_model_registry.core.wishes import Rollback

REASON = "rollback"
"""What a release says that was made by a rollback."""


def target(catalogue: Catalogue, wish: Rollback) -> Release | str:
    """Return the earlier release to make again, or why there is none."""
    made = [
        release
        for release in catalogue.releases
        if (release.released.model, release.released.alias) == (wish.model, CHAMPION)
    ]
    if not made:
        return f"nothing of model {wish.model} was released yet"
    kept = [release for release in made if not _is_retired(release, catalogue)]
    if wish.ordinal in {release.released.ordinal for release in made} - {release.released.ordinal for release in kept}:
        return f"version {wish.ordinal} of model {wish.model} is retired: its pipeline retains it no longer"
    return _by_ordinal(kept, wish) if wish.ordinal else _one_back(kept, wish)


def is_of_the_candidate(catalogue: Catalogue, wish: Rollback) -> bool:
    """Tell whether a rollback takes back a candidate alone: what was released last goes, and the champion stays."""
    champion = catalogue.champion(wish.model)
    named = (0, champion.ordinal if champion else 0)
    return wish.model in catalogue.tried.rollouts and wish.ordinal in named


def _is_retired(release: Release, catalogue: Catalogue) -> bool:
    version = catalogue.versions.get((release.released.pipeline, release.released.version_id))
    return version is not None and version.state is VersionState.RETIRED


def _by_ordinal(made: list[Release], wish: Rollback) -> Release | str:
    current = made[-1].released
    if current.ordinal == wish.ordinal:
        return f"version {wish.ordinal} of model {wish.model} is the champion already"
    found = [release for release in made if release.released.ordinal == wish.ordinal]
    if not found:
        ordinals = ", ".join(str(ordinal) for ordinal in sorted({release.released.ordinal for release in made}))
        return f"version {wish.ordinal} of model {wish.model} was never released; released were: {ordinals}"
    return found[-1]


def _one_back(made: list[Release], wish: Rollback) -> Release | str:
    """Return the release under the current one.

    A rollback takes away what was released since the version it goes back to, so that the next one goes further back
    and never to what was just left behind.
    """
    standing: list[Release] = []
    for release in made:
        places = [place for place, one in enumerate(standing) if _version(one) == _version(release)]
        if places and release.released.reason == REASON:
            del standing[places[-1] :]
        elif places and places[-1] == len(standing) - 1:
            standing.pop()  # the same version once more, such as in another variant
        standing.append(release)
    if len(standing) < 2:
        only = standing[0].released.ordinal
        return f"there is no release of model {wish.model} before version {only}, which is the champion"
    return standing[-2]


def _version(release: Release) -> str:
    return release.released.version_id
