"""What the object store holds of a pipeline: its rows, once, and what is known of them."""

from __future__ import annotations

from pathlib import Path

from headrace.events.v1 import segment_pb2
from headrace_data.history import History
from headrace_data.manifest import SegmentManifest
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import SEGMENT_CUT


def contents(settings: KafkaSettings, store: ObjectStore, pipeline: str) -> str:
    """Return in words how many bytes parts, sketches and everything else take."""
    cut = newest_cut(settings, pipeline)
    history = History.from_json(store.get(cut.history))
    manifests = [SegmentManifest.from_json(store.get(entry.manifest)) for entry in history.entries]
    parts = {part.digest: part.size_bytes for manifest in manifests for part in manifest.parts}
    sketches = {entry.sketch.digest: entry.sketch.size_bytes for entry in history.entries if entry.sketch}
    folder = Path(history.entries[0].manifest.uri.removeprefix("file://")).parents[1]
    files = [file for file in folder.rglob("*") if file.is_file()]
    everything = sum(file.stat().st_size for file in files)
    rows = sum(parts.values())
    return (
        f"{cut.segments} segments of {cut.rows} rows, parts {rows / 1e6:.1f} MB, sketches "
        f"{sum(sketches.values()) / 1e6:.1f} MB, everything else in the store "
        f"{(everything - rows - sum(sketches.values())) / 1e6:.1f} MB"
    )


def newest_cut(settings: KafkaSettings, pipeline: str) -> segment_pb2.SegmentCut:
    """Return the newest message of a pipeline's cuts. Raises IndexError when there is none."""
    with LogReader(settings, "days") as reader:
        places = reader.partitions(SEGMENT_CUT.name)
        reader.start_at(dict.fromkeys(places))
        found = [
            decode(record, segment_pb2.SegmentCut) for read in reader.read_to(reader.ends(places)) for record in read
        ]
    return [cut for cut in found if cut.pipeline == pipeline][-1]
