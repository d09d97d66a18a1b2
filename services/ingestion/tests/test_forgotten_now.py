"""The forgotten keys of a pipeline as ingestion knows them: by its newest cut, the history and the secret."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from headrace.events.v1 import artifact_pb2, segment_pb2
from headrace_data.forgotten import NOTHING_FORGOTTEN, Anybody, forgotten, secret_id, secrets_folder
from headrace_data.history import History
from headrace_data.spec import load_pipeline
from headrace_ingestion.adapters.forgotten_now import ForgottenNow
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.stream.cuts import NewestCuts

from .conftest import DOCUMENT

SECRET = b"0123456789abcdef" * 2
SOMEBODY = Record("headrace.segment.cut.v1", 0, 0, None, None)


def test_keys_are_known_from_the_cut_on_that_counts_them(tmp_path: Path) -> None:
    pipeline, store = load_pipeline(DOCUMENT), ObjectStore(str(tmp_path))
    cuts = NewestCuts(KafkaSettings(), "test")
    cuts._ready.set()

    def cut(*keys: str) -> None:
        history = History(pipeline="meters", forgotten=tuple(forgotten(key, SECRET) for key in keys))
        kept = store.put(history.to_json())
        named = artifact_pb2.Artifact(uri=kept.uri, digest=kept.digest, size_bytes=kept.size_bytes)
        cuts._take("", segment_pb2.SegmentCut(pipeline="meters", history=named, forgotten_keys=len(keys)), SOMEBODY)

    def known() -> list[bool]:
        found: list[bool] = now().among(pa.array(["ada", "grace", "mary"])).tolist()
        return found

    now = ForgottenNow(pipeline, cuts, store)
    assert now() is NOTHING_FORGOTTEN
    cut()
    assert not now()
    cut("ada")
    # Without the secret nobody can tell, and letters tell of nobody.
    assert isinstance(now(), Anybody)
    assert known() == [True] * 3
    store.write(f"{secrets_folder(pipeline.own_name)}/{secret_id(SECRET)}", SECRET)
    assert known() == [True, False, False]
    cut("ada", "grace")
    assert known() == [True, True, False]
