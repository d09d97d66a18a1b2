import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.training.randomness import make_deterministic
from headrace_runtime.object_store import ObjectStore
from sklearn.datasets import load_digits

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "pipeline.yaml"

Freeze = Callable[[Pipeline], Manifest]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


@pytest.fixture
def digits() -> Pipeline:
    """The pipeline of the example."""
    return load_pipeline(EXAMPLE.read_bytes())


@pytest.fixture(scope="session")
def records() -> list[bytes]:
    """The scanned digits as a producer sends them."""
    bunch = load_digits()
    return [
        json.dumps(
            {"id": f"digit-{place:04}", "image": f"digit-{place:04}", "pixels": image.tolist(), "digit": int(digit)}
        ).encode()
        for place, (image, digit) in enumerate(zip(bunch.images, bunch.target, strict=True))
    ]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


@pytest.fixture
def freeze(records: list[bytes], store: ObjectStore) -> Freeze:
    """Freezes the digits as the given pipeline prepares them."""

    def run(pipeline: Pipeline) -> Manifest:
        checked = RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records)))
        writer = SegmentWriter(pipeline, store)
        writer.add(checked.batch)
        return only_dataset(
            writer.finish(
                Provenance(cluster_id="c", topic="digits", topic_id="", sources=(), clean_ranges=(), rejected={})
            ),
            pipeline,
            store,
        )

    return run
