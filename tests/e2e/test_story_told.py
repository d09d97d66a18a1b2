"""What the platform has done can be told: where a prediction comes from, where a record went, what was known when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import dead_topic
from headrace_runtime.records import Record

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

Headrace = Callable[..., Any]
CHECK = Path(__file__).parents[2] / "clients" / "python" / "check_proof.py"
DIGITS = (Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml").read_text()


def told(headrace: Headrace, *arguments: str) -> Any:
    """Return what a command says as JSON."""
    result = headrace(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def shown(headrace: Headrace, *arguments: str) -> str:
    """Return what a command says to a person."""
    result = headrace(*arguments)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


@pytest.fixture(scope="module")
def manifest(platform: Platform, registry: RegistryClient, released: dict[str, Any]) -> Manifest:
    """The dataset behind the first version."""
    wanted = released["release"]["dataset_id"]
    (frozen,) = [each.frozen for each in registry.datasets("digits") if each.frozen.dataset_id == wanted]
    return Manifest.from_json(ObjectStore(platform.connections.store_url).get(frozen.manifest))


def test_a_prediction_leads_back_to_the_producers_offsets(
    headrace: Headrace, registry: RegistryClient, inference: InferenceClient, released: dict[str, Any]
) -> None:
    answer = inference.infer("digits", {"pixels": np.zeros((1, 8, 8), np.float32)})
    prediction_id = str(answer.parameters["prediction_id"])
    found = told(headrace, "lineage", prediction_id)
    prediction, version, dataset = found["prediction"], found["version"], found["dataset"]
    assert (prediction["prediction_id"], prediction["rows"]) == (prediction_id, 1)
    assert prediction["variant"] == answer.parameters["variant"]
    assert prediction["version_id"] == version["version_id"]
    assert (str(version["ordinal"]), version["state"]) == (answer.version, "released")
    assert found["runs"][0]["run_id"] == version["run_id"]
    assert [(run["kind"], run["state"]) for run in found["runs"][:2]] == [
        ("training", "succeeded"),
        ("compression", "succeeded"),
    ]
    assert dataset["dataset_id"] == version["dataset_id"]
    assert found["topic"] == "digits"
    assert sum(source["end"] - source["start"] for source in dataset["sources"]) > sum(dataset["rows"].values())
    assert prediction_id in shown(headrace, "lineage", prediction_id)
    short = version["version_id"].removeprefix("sha256:")[:12]
    assert registry.lineage(short).version.trained.version_id == version["version_id"]


def test_a_prediction_is_proved_offline_and_a_change_is_found(
    platform: Platform, headrace: Headrace, inference: InferenceClient, manifest: Manifest, tmp_path: Path
) -> None:
    rows = next(DatasetReader(manifest, ObjectStore(platform.connections.store_url)).batches("train"))
    places = [f"digits:{rows['_partition'][at].as_py()}:{rows['_offset'][at].as_py()}" for at in (0, -1)]
    named = [argument for place in places for argument in ("--rows", place)]
    public = Path(os.environ["HEADRACE_SIGNING_KEY_FILE"]).with_name("public.pem")
    file, head = tmp_path / "proof.json", tmp_path / "head.json"

    def checked(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(CHECK), str(file), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
        return ended.returncode, ended.stdout

    batch = np.full((3, 8, 8), 7, np.float32)
    cold, hot = (inference.infer("digits", {"pixels": batch}) for _ in range(2))
    assert (cold.cached, hot.cached) == (False, True)
    for answer in (cold, hot):
        prediction_id = str(answer.parameters["prediction_id"])
        shown(headrace, "prove", prediction_id, *named, "-o", str(file))
        code, said = checked("--key", str(public))
        assert (code, said.count("row: digits:")) == (0, 2), said
        assert f"prediction: {prediction_id} of digits by {answer.parameters['variant']}" in said
    text = file.read_text()
    file.write_text(text.replace(prediction_id, prediction_id[::-1]))
    assert checked() == (1, checked("--key", str(public))[1])
    found = told(headrace, "verify", "--key", str(public), "--save", str(head))
    assert (found["begins"], found["first_break"], found["problems"]) == (0, None, [])
    assert found["entries"] >= json.loads(text)["head"]["size"]
    assert "chained since offset 0; root" in shown(headrace, "verify", "--kafka", "--head", str(head))
    head.write_text(head.read_text().replace(found["head"]["root"], "00" * 32))
    assert headrace("verify", "--head", str(head)).returncode == 1


def test_a_record_that_was_learned_from_names_split_dataset_and_version(
    platform: Platform, headrace: Headrace, released: dict[str, Any], manifest: Manifest
) -> None:
    reader = DatasetReader(manifest, ObjectStore(platform.connections.store_url))
    for split in ("train", "test"):
        rows = next(reader.batches(split))
        partition, offset = rows["_partition"][-1].as_py(), rows["_offset"][-1].as_py()
        place = f"digits:{partition}:{offset}"
        (fate,) = told(headrace, "where", place)
        assert (fate["fate"], fate["split"]) == ("in_dataset", split)
        assert fate["dataset_id"] == manifest.dataset_id
        assert fate["rejection"] is None
        assert released["release"]["version_id"] in [version["version_id"] for version in fate["versions"]]
    assert "test split of dataset" in shown(headrace, "where", place)


def test_a_rejected_record_names_stage_rule_and_reason(
    platform: Platform,
    headrace: Headrace,
    released: dict[str, Any],
    committed: Callable[[Platform, str], Sequence[Record]],
) -> None:
    letters = {letter.header("dead-rule"): letter for letter in committed(platform, dead_topic("digits"))}
    for rule, stage in (("shape", "ingestion"), ("duplicates", "preprocessing")):
        letter = letters[rule]
        place = f"digits:{letter.header('dead-partition')}:{letter.header('dead-offset')}"
        (fate,) = told(headrace, "where", place)
        assert (fate["fate"], fate["dataset_id"], fate["versions"]) == ("rejected", None, [])
        assert (fate["rejection"]["stage"], fate["rejection"]["rule"]) == (stage, rule)
        assert fate["rejection"]["reason"] == letter.header("dead-reason")


def test_what_is_not_there_is_said_to_be_unknown(headrace: Headrace, released: dict[str, Any]) -> None:
    for arguments, words in (
        (("where", "digits:0:999999999"), "there is no record digits:0:999999999 yet"),
        (("lineage", "no-such-thing"), "'no-such-thing'"),
    ):
        result = headrace(*arguments)
        assert result.returncode == 1
        assert words in " ".join(result.stderr.split())


def test_before_the_release_nothing_was_released(
    headrace: Headrace, registry: RegistryClient, released: dict[str, Any]
) -> None:
    made = datetime.fromisoformat(released["release"]["release_time"])
    before, after = made - timedelta(milliseconds=10), made + timedelta(milliseconds=10)
    assert told(headrace, "get", "releases", "digits", "--as-of", before.isoformat()) == []
    then = told(headrace, "get", "versions", "digits", "--as-of", before.isoformat())
    assert [version["state"] for version in then] == ["candidate"]
    assert [release.released.epoch for release in registry.releases("digits", as_of=after)] == [1]
    assert registry.pipelines("digits", as_of=made - timedelta(days=1)) == []


def test_a_mended_spec_is_released_without_new_records(
    platform: Platform, headrace: Headrace, registry: RegistryClient, produce: Callable[..., None], tmp_path: Path
) -> None:
    start, end = DIGITS.index("\ntrain:") + 1, DIGITS.index("\ncompress:") + 1
    named = DIGITS[:start].replace("{name: digits}", "{name: mended}").replace("topic: digits", "topic: mended")
    document = tmp_path / "pipeline.yaml"

    def apply(learning_rate: float) -> None:
        optimizer = f"{{kind: momentum, learningRate: {learning_rate}, momentum: 0.9}}"
        train = f"train:\n  network: {{kind: mlp, hidden: [64]}}\n  optimizer: {optimizer}\n  epochs: 3\n"
        document.write_text(named + train + DIGITS[end:])
        applied = headrace("apply", str(document), "--create-topic")
        assert applied.returncode == 0, applied.stderr

    apply(10.0)
    produce(platform, "mended")
    failed = headrace("wait", "mended", "--timeout", "140s")
    assert failed.returncode == 1
    assert "training failed" in failed.stderr
    apply(0.01)
    waited = told(headrace, "wait", "mended", "--timeout", "140s")
    (dataset,) = registry.datasets("mended")
    assert waited["dataset"]["dataset_id"] == dataset.frozen.dataset_id
    assert waited["dataset"]["spec_digest"] == registry.pipeline("mended").spec.digest != dataset.frozen.spec_digest
    assert waited["release"]["version_id"] == waited["version"]["version_id"]
    assert [run["state"] for run in waited["runs"]] == ["succeeded", "succeeded"]
