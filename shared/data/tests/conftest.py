import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from headrace_data.manifest import Provenance
from headrace_data.parts import Blob
from headrace_data.spec import Pipeline, load_pipeline

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "pipeline.yaml"
MIXED = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: mixed}
stream:
  topic: mixed
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: team, type: int64, role: group}
    - {name: image, type: float32, shape: [2, 3], role: feature, range: [-4, 4], nullable: true}
    - {name: amount, type: float64, role: feature, range: [0, 100]}
    - {name: age, type: uint8, role: feature, nullable: true}
    - {name: kind, type: string, role: label, nullable: true}
prepare:
  clean: {duplicateWindow: 50}
  transform: {image: {scale: standard}, amount: {scale: minmax}}
  split: {train: 0.5, validation: 0.25, test: 0.25}
train:
  network: {kind: mlp}
"""


@dataclass(frozen=True)
class MemoryBlob:
    uri: str
    digest: str
    size_bytes: int


class MemoryStore:
    """A blob store in memory, which verifies what it returns."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, data: bytes) -> MemoryBlob:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[f"memory://{digest}"] = data
        return MemoryBlob(f"memory://{digest}", digest, len(data))

    def get(self, blob: Blob) -> bytes:
        data = self.blobs[blob.uri]
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
            raise ValueError(f"{blob.uri} does not match its digest")
        return data


@pytest.fixture(scope="session")
def digits() -> Pipeline:
    return load_pipeline(EXAMPLE.read_bytes())


@pytest.fixture(scope="session")
def mixed() -> Pipeline:
    return load_pipeline(MIXED)


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance(cluster_id="c", topic="mixed", topic_id="t", sources=(), clean_ranges=(), rejected={})
