"""Who carries out what a request orders: one literal table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace_data.spec import Pipeline
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.schema_registry import RegistryAccess

from headrace_preprocessing.ports import Outside
from headrace_preprocessing.transport.backfills import Backfills
from headrace_preprocessing.transport.blobs import Blobs
from headrace_preprocessing.transport.forgetting import Forgetting
from headrace_preprocessing.transport.holds import Holds
from headrace_preprocessing.transport.orders import Order, Taker


def takers(
    pipeline: Pipeline,
    store: ObjectStore,
    outside: Outside,
    cluster_id: Callable[[], str],
    registries: RegistryAccess,
) -> Mapping[Order, Taker]:
    """Return who carries out the orders of one pipeline."""
    return {
        "forget": Forgetting(pipeline, store, outside.retentions).take,
        "backfill": Backfills(pipeline, store, outside.topics, cluster_id, outside.keys, registries).take_in,
        "hold": Holds(pipeline, Blobs(store)).settle,
    }
