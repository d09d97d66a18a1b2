"""Which versions have learned from a key that is forgotten."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace_model_registry.core.facts import KeyForgotten, TrainingRequested
from headrace_model_registry.core.records import RunRecord, Version

if TYPE_CHECKING:
    from headrace_model_registry.core.catalogue import Catalogue, Key


def seen_by(fact: KeyForgotten, catalogue: "Catalogue") -> "Mapping[Key, Version]":
    """Return the versions that learned from a key, by themselves or as what they began from, which say so from now on.

    What a dataset validates or tests with is looked at when a version is chosen: that counts, too.
    """
    told = {each.dataset_id for each in fact.datasets}
    found: dict[Key, Version] = {}
    ids = set[str]()
    # Versions are in the order in which they were trained, so what one began from comes before it.
    for key, version in catalogue.versions.items():
        trained = version.trained
        learned = (key[0] == fact.pipeline and trained.dataset_id in told) or _origin(
            catalogue.runs.get(trained.run_id)
        ) in ids
        if learned:
            ids.add(trained.version_id)
            found[key] = replace(version, forgotten_keys=version.forgotten_keys + 1)
    return found


def _origin(run: RunRecord | None) -> str | None:
    return (run.origin or None) if run is not None and isinstance(run.request, TrainingRequested) else None
