"""Keys that are to be forgotten: their digests, which are all that a service is told, and the proof of what was done.

Needs an extra of `headrace-client` that brings the object store, where the secrets of digests lie, such as `kafka`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.forget_pb2 import ForgettingTopic, KeyDigest
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.registry.v1.registry_service_pb2 import ForgottenKey, Version

from headrace_client.errors import InputInvalid, PipelineFailed, TimedOut
from headrace_client.personal import stored
from headrace_client.registry import RegistryClient
from headrace_client.stages import duration_text
from headrace_client.views import View, version_state_word

if TYPE_CHECKING:
    from headrace_data.spec import Pipeline
    from headrace_runtime.object_store import ObjectStore

FORMAT: Final = "headrace.forgotten.v1"
POLL_S: Final = 0.5
SPLITS: Final = ("train", "validation", "test")
_FAILED: Final = "the forgetting of a key changed nothing"


def key_digest(applied: PipelineApplied, key: str, store: ObjectStore, keys: Path | None = None) -> KeyDigest:
    """Return the digest of a key as rows have it; with the folder of `keys`, of what is stored in its place.

    The pipeline's secret is made where it has none yet. Raises InputInvalid for what is no key of the pipeline.
    """
    from headrace_data.forgotten import SECRET_BYTES, forgotten, key_text, secret_id, secrets_folder
    from headrace_data.spec import parse_canonical

    pipeline = parse_canonical(applied.spec.json).incarnated(applied.incarnation)
    text = _as_stored(pipeline, key, keys)
    field = pipeline.stream.key_field
    if field is None:
        raise InputInvalid(f"pipeline '{applied.pipeline}': expected records with a key, got none")
    folder = secrets_folder(pipeline.own_name)
    names = [name for name in store.list(folder) if name.rpartition("/")[0] == folder]
    secret = store.read(names[0]) if names else None
    if secret is None:
        secret = secrets.token_bytes(SECRET_BYTES)
        store.write(f"{folder}/{secret_id(secret)}", secret)
    try:
        made = forgotten(key_text(text, field), secret)
    except ValueError as error:
        raise InputInvalid(str(error)) from error
    return KeyDigest(secret=made.secret, digest=made.digest)


def _as_stored(pipeline: Pipeline, key: str, keys: Path | None) -> str:
    field, personal = pipeline.stream.key_field, pipeline.stream.personal
    if keys is None or personal is None or field is None or field.name not in personal.fields:
        return key
    return stored(pipeline, field.name, keys)(key)


def wait_forgotten(registry: RegistryClient, pipeline: str, request_id: str, timeout_s: float) -> ForgottenKey:
    """Return what was done about a key, once it is. Raises PipelineFailed with the reason, and TimedOut."""
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        for each in registry.forgotten(pipeline):
            if each.forgotten.request_id == request_id:
                return each
        for state in registry.watch(pipeline, timeout_s=left_s):
            if state.failure.startswith(_FAILED):
                raise PipelineFailed(state.failure)
            break
        time.sleep(min(POLL_S, max(0.0, left_s)))
    raise TimedOut(
        f"pipeline '{pipeline}' was asked to forget a key ({request_id}), and has not after "
        f"{duration_text(timeout_s)}; it goes on, and `headrace get forgotten` tells what was done"
    )


def proof(done: ForgottenKey, versions: Sequence[Version]) -> View:
    """Return the proof of what was done about a key as JSON values; it never has the key."""
    told = done.forgotten
    return {
        "format": FORMAT,
        "pipeline": told.pipeline,
        "request_id": told.request_id,
        "key": {"secret": told.key.secret, "digest": told.key.digest},
        "time": _time(done.occur_time),
        "rows": told.rows or sum(each.rows for each in told.segments),
        "segment_count": told.segment_count or len(told.segments),
        "segments": [{"segment_id": each.segment_id, "rows": each.rows} for each in told.segments],
        "datasets": [
            {"dataset_id": each.dataset_id, **{split: getattr(each, split) for split in SPLITS}}
            for each in told.datasets
        ],
        "versions": [_version(each) for each in versions if each.trained.version_id in done.version_ids],
        "erased_count": told.erased_count or len(told.erased),
        "erased": [
            {"kind": each.kind, "digest": each.digest, "replacement": each.replacement or None} for each in told.erased
        ],
        "searched": [
            {"kind": each.kind, "objects": each.objects, "size_bytes": each.size_bytes} for each in told.searched
        ],
        "topics": [_topic(each) for each in told.topics],
        "left": list(told.left),
        "whole": {"uri": told.whole.uri, "digest": told.whole.digest} if told.HasField("whole") else None,
        "retrain": told.retrain,
    }


def _version(version: Version) -> View:
    trained = version.trained
    return {
        "model": trained.model,
        "ordinal": version.ordinal,
        "version_id": trained.version_id,
        "dataset_id": trained.dataset_id,
        "state": version_state_word(version.state),
    }


def _topic(topic: ForgettingTopic) -> View:
    until = _time(topic.end_time) if topic.HasField("end_time") else None
    return {"topic": topic.topic, "holds": topic.holds, "until": until, "remark": topic.remark or None}


def _time(stamp: Timestamp) -> str:
    return stamp.ToDatetime(UTC).isoformat()
