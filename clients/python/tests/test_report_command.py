"""`report` against a registry with canned answers and a real object store."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

import grpc
import onnx
import pytest
from headrace.events.v1 import hold_pb2
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_runtime.object_store import ObjectStore
from onnx import TensorProto, helper

MASS = Path(__file__).parents[3] / "examples" / "penguins-mass" / "pipeline.yaml"
ROWS = Path(__file__).parents[3] / "examples" / "penguins" / "rows.jsonl"


def graph() -> bytes:
    """A model that takes a penguin's flipper for its mass."""
    flipper = helper.make_tensor_value_info("flipper_length_mm", TensorProto.FLOAT, ["batch"])
    mass = helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["batch"])
    node = helper.make_node("Identity", ["flipper_length_mm"], ["prediction"])
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(helper.make_graph([node], "g", [flipper], [mass]), opset_imports=opset, ir_version=8)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def put(store: ObjectStore, data: bytes) -> Artifact:
    kept = store.put(data)
    return Artifact(uri=kept.uri, digest=kept.digest, size_bytes=kept.size_bytes)


@pytest.fixture
def stocked(registry, canned, tmp_path: Path) -> Path:
    """The registry knows a dataset, a version and its release; returns the folder of the object store."""
    store = ObjectStore(str(tmp_path / "store"))
    pipeline = load_pipeline(MASS.read_bytes())
    rows = ROWS.read_bytes().splitlines()
    writer = SegmentWriter(pipeline, store, part_rows=20)
    writer.add(RecordChecker(pipeline.stream).check(rows, [0] * len(rows), range(len(rows))).batch)
    told = Provenance(cluster_id="c", topic="penguins", topic_id="t", sources=(), clean_ranges=(), rejected={})
    origin = told.model_copy(update={"time_sources": ("create", "field"), "writer_schemas": ("sha256:5ee",)})
    manifest = only_dataset(writer.finish(origin), pipeline, store)
    dataset, version, release = canned.dataset(), canned.version(messages.VERSION_STATE_RELEASED), canned.release()
    dataset.frozen.dataset_id = version.trained.dataset_id = manifest.dataset_id
    dataset.frozen.manifest.CopyFrom(put(store, manifest.to_json()))
    version.trained.manifest.CopyFrom(put(store, json.dumps({"best_epoch": 2, "classes": []}).encode()))
    version.trained.graph.CopyFrom(put(store, graph()))
    release.released.graph.CopyFrom(version.trained.graph)
    for attempt, epochs in ((1, (1, 2)), (2, (2, 3)), (10, (4,))):
        curve = [{"epoch": epoch, "train_loss": attempt / epoch} for epoch in epochs]
        store.write(f"runs/{version.trained.run_id}/attempt-{attempt}/curve.json", json.dumps(curve).encode())
    store.write(f"runs/{version.trained.run_id}/attempt-x/curve.json", b"[]")
    store.write(f"runs/{version.trained.run_id}/attempt-11/curve.json", b'[{"epoch"')
    registry.datasets, registry.versions, registry.releases = [dataset], [version], [release]
    registry.lineage = messages.GetLineageResponse(
        version=version, runs=[canned.training(messages.RUN_STATE_SUCCEEDED)], dataset=dataset, topic="penguins"
    )
    return tmp_path / "store"


@pytest.mark.parametrize("name", ["digits", "digits:1", "sha256:eeee"])
@pytest.mark.usefixtures("stocked")
def test_a_version_is_found_by_its_name_ordinal_or_id(headrace, tmp_path: Path, registry, name: str) -> None:
    if name.startswith("sha256"):
        registry.versions, registry.datasets = [], []
    done = headrace("report", name, "--output", str(tmp_path / "out" / "page.html"))
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "page.html").read_text()
    assert "digits, version 1" in page
    assert "Residuals" in page
    assert "it loads nothing" in done.stdout


@pytest.mark.usefixtures("stocked")
def test_a_file_that_is_there_is_written_over_by_force_alone(headrace, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine")
    refused = headrace("report", "digits", "--output", str(path))
    assert refused.exit_code == 1
    assert f"{path} is there already: give another --output, or --force to write over it" in refused.stderr
    assert path.read_text() == "mine"
    assert headrace("report", "digits", "--output", str(path), "--force").exit_code == 0
    assert "digits, version 1" in path.read_text()


@pytest.mark.usefixtures("stocked")
def test_the_curve_is_that_of_all_attempts_in_order(headrace, tmp_path: Path) -> None:
    from headrace_client import RegistryClient
    from headrace_client.report.facts import VersionFacts
    from headrace_client.report.sources import find

    with RegistryClient() as client:
        facts = find(client, "digits")
    assert isinstance(facts, VersionFacts)
    curve = [(point["epoch"], point["train_loss"]) for point in facts.curve]
    assert curve == [(1, 1.0), (2, 1.0), (3, 2 / 3), (4, 2.5)]
    assert facts.answers.variant == "fp32"
    assert len(facts.answers.truth) > 20


@pytest.mark.usefixtures("stocked")
def test_the_dataset_behind_a_version_is_written_to_a_file_of_its_name(
    headrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = headrace("report", "digits", "--dataset")
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("penguins-mass-dataset-*.html")
    assert str(path.name) in done.stdout
    assert "Distribution of body_mass_g" in path.read_text()
    assert all(told in path.read_text() for told in ("set by the producer, a field of the record", "written with"))


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (("report", "digits"), "headrace_runtime.object_store", "report"),
        (("report", "digits"), "headrace_engines", "report"),
        (("init", "--topic", "t"), "headrace_runtime.settings", "kafka"),
    ],
)
def test_an_extra_that_is_missing_is_named(
    headrace, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    done = headrace(*command)
    assert done.exit_code == 1
    assert f"needs the extra '{extra}': run `uv tool install './clients/python[" in done.stderr


@pytest.mark.usefixtures("stocked")
def test_of_a_large_dataset_the_first_files_are_read_and_that_is_said(
    headrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace_client.report import sources

    monkeypatch.setattr(sources, "MOST_ROWS", 10)
    path = tmp_path / "page.html"
    assert headrace("report", "digits", "--dataset", "--output", str(path)).exit_code == 0
    assert re.search(r"Counted over the first \d\d rows\.", path.read_text())


def test_a_name_that_nothing_has_is_refused(headrace, registry) -> None:
    done = headrace("report", "nothing")
    assert done.exit_code == 1
    assert "there is no version, model, dataset or pipeline 'nothing'" in done.stderr
    early = headrace("report", "digits")
    assert "pipeline 'digits' has no dataset yet" in early.stderr
    registry.refusal = (grpc.StatusCode.NOT_FOUND, "nothing has an id that begins so")
    assert headrace("report", "abcd1234").exit_code == 1


def test_a_store_that_cannot_be_read_names_the_setting(
    headrace, stocked: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "elsewhere"))
    done = headrace("report", "digits")
    assert done.exit_code == 1
    assert "HEADRACE_STORE_URL" in done.stderr
    monkeypatch.setenv("HEADRACE_STORE_URL", str(stocked))
    done = headrace("report", "digits", "--output", str(stocked), "--force")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("what", [[], ["--dataset"]], ids=["version", "dataset"])
@pytest.mark.usefixtures("stocked")
def test_what_is_held_is_on_both_pages_with_what_decides(headrace, tmp_path: Path, registry, what: list[str]) -> None:
    def page() -> str:
        done = headrace("report", "digits", *what, "-o", str(tmp_path / "page.html"), "--force")
        assert done.exit_code == 0, done.output
        return " ".join(re.sub(r"<[^>]+>", " ", html.unescape((tmp_path / "page.html").read_text())).split())

    assert "hold accept" not in page()
    wind = hold_pb2.Suspicion(field="wind", figure="scale", before=5, after=5012.4)
    for letter, state in (("a", hold_pb2.HOLD_STATE_DROPPED), ("b", hold_pb2.HOLD_STATE_HELD)):
        segment = hold_pb2.HeldSegment(segment_id=f"sha256:{letter * 64}", rows=500, suspicions=[wind], state=state)
        registry.held = [*registry.held, messages.Held(pipeline="digits", segment=segment)]
    told = page()
    assert "held 500 rows of 1 segment that wait for a decision" in told
    assert "bbbbbbbbbbbb held 500 wind scale 5 \u2192 5012" in told
    assert "aaaaaaaaaaaa dropped 500" in told
    assert "headrace hold accept digits SEGMENT has one learned all the same" in told
