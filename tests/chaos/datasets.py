"""Asks for datasets in between, and at the end for what is in them: each clean row, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
from audit import Origins, origins_of, repeated, tell
from headrace.events.v1 import dataset_pb2
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.split import SPLITS
from headrace_runtime.kafka import TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import DATASET_FAILED, DATASET_FROZEN, DATASET_REQUESTED
from reading import named, read, unequal, until
from records import PIPELINE


def ask(settings: KafkaSettings, request_id: str, pipeline: str = PIPELINE) -> None:
    """Ask for a dataset of what is clean now."""
    request = dataset_pb2.DatasetRequested(pipeline=pipeline, request_id=request_id)
    with closing(TransactionalProducer(settings, "chaos.freeze")) as producer, producer.transaction() as transaction:
        transaction.send([encode(request, source="chaos")])


def audit(settings: KafkaSettings, store_url: str, clean: Origins) -> tuple[int, list[str]]:
    """Return how many datasets there are, and what is wrong with them once what was left is frozen.

    Every request ends in one fact, and every clean row is in one dataset.
    """
    asked = named(settings, DATASET_REQUESTED.name, dataset_pb2.DatasetRequested, _request_id)

    def ended() -> Counter[str]:
        done = named(settings, DATASET_FROZEN.name, dataset_pb2.DatasetFrozen, _request_id)
        return done + named(settings, DATASET_FAILED.name, dataset_pb2.DatasetFailed, _request_id)

    differences = unequal("request for a dataset", asked, until(ended, asked))
    frozen = [[origins_of(batch) for batch in dataset] for dataset in datasets(settings, store_url, PIPELINE)]
    found = np.concatenate([np.empty(0, np.int64), *(rows for dataset in frozen for rows in dataset)])
    differences += tell("in no dataset", np.setdiff1d(clean, found))
    differences += tell("in a dataset and not clean", np.setdiff1d(found, clean))
    return len(frozen), differences + tell("in datasets more than once", repeated(found))


def datasets(settings: KafkaSettings, store_url: str, pipeline: str) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the rows of each dataset of a pipeline."""
    store = ObjectStore(store_url)
    for record in read(settings, DATASET_FROZEN.name):
        message = decode(record, dataset_pb2.DatasetFrozen)
        if message.pipeline == pipeline:
            reader = DatasetReader(Manifest.from_json(store.get(message.manifest)), store)
            yield (batch for split in SPLITS for batch in reader.batches(split))


def _request_id(message: Any) -> str | None:
    return str(message.request_id) if (message.pipeline, message.incarnation) == (PIPELINE, 0) else None
