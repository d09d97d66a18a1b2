"""Who is to come into no segment any more: the forgotten keys of a history, told by the secrets of its pipeline."""

from __future__ import annotations

from headrace_data.errors import DatasetUnusable
from headrace_data.forgotten import Anybody, Suppression, secrets_of
from headrace_data.history import History
from headrace_data.spec import Pipeline
from headrace_runtime.object_store import ObjectStore


def suppression_of(store: ObjectStore, pipeline: Pipeline, history: History) -> Suppression:
    """Return what tells records of forgotten keys. Raises DatasetUnusable where a secret is gone."""
    return Suppression(history.forgotten, secrets_of(pipeline, store.read))


def told_of(store: ObjectStore, pipeline: Pipeline, history: History) -> Suppression:
    """Return what tells records of forgotten keys for letters: these tell of nobody's where a secret is gone."""
    try:
        return suppression_of(store, pipeline, history)
    except DatasetUnusable:
        return Anybody()
