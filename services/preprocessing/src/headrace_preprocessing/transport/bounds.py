"""Keeps what is told of a forgotten key small enough for a message: long lists are whole in the object store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from google.protobuf.json_format import MessageToDict
from headrace.events.v1 import artifact_pb2, forget_pb2
from headrace_runtime.object_store import ObjectStore, digest_of

MOST_TOLD: Final = 1_000
"""How many entries of a list a message has: with their digests about 150 KB of the 1 MiB that brokers take."""
_DATASET: Final = "dataset"


def bound(told: forget_pb2.KeyForgotten, store: ObjectStore, name: str) -> None:
    """Count what is told, and cut lists that are long; they are kept whole under a name of the store.

    Manifests of datasets stay, whose places in the log proofs name.
    """
    told.segment_count, told.erased_count = len(told.segments), len(told.erased)
    told.rows = sum(each.rows for each in told.segments)
    others = [each for each in told.erased if each.kind != _DATASET]
    if max(len(told.segments), len(others), len(told.left)) <= MOST_TOLD:
        return
    lists = MessageToDict(told, preserving_proto_field_name=True)
    whole = json.dumps({each: lists.get(each, []) for each in ("segments", "erased", "left")}, sort_keys=True).encode()
    store.write(name, whole)
    uri = f"{store.url}/{name}"
    told.whole.CopyFrom(artifact_pb2.Artifact(uri=uri, digest=digest_of(whole), size_bytes=len(whole)))
    kept = [each for each in told.erased if each.kind == _DATASET] + others[:MOST_TOLD]
    del told.erased[:], told.segments[MOST_TOLD:], told.left[MOST_TOLD:]
    told.erased.extend(kept)


def tell_of_rivals(told: forget_pb2.KeyForgotten, stays: Sequence[str]) -> None:
    """Tell which objects are there all the same: somebody put the same bytes since they were looked at."""
    kept = [each for each in told.erased if each.digest not in stays]
    del told.erased[:]
    told.erased.extend(kept)
    told.erased_count -= len(stays)
    reasons = [f"{each}: it was put again meanwhile: forget the key again" for each in stays]
    told.left.extend(reasons[:MOST_TOLD])
