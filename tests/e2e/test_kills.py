"""Every service is killed within a span that is open; the story ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]
import pytest
from google.protobuf.message import Message
from headrace.events.v1 import dataset_pb2, evaluation_pb2, model_pb2, record_pb2, run_pb2
from headrace_client import InferenceClient, RegistryClient
from headrace_client.errors import NotReady, Unreachable
from headrace_client.proofs import walk
from headrace_client.stages import Goal, Mark
from headrace_client.waiting import wait_for
from headrace_data.batches import from_ipc
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Record
from headrace_runtime.telemetry.hold import Held, point
from headrace_runtime.topics import REGISTRY_LOG, topic_of
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = "killed"
DIGITS = (Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml").read_text()
RECORDS = 1797
CLIENTS = 3

Array = npt.NDArray[Any]
Until = Callable[..., Any]
Committed = Callable[["Platform", str], Sequence[Record]]


class Killer:
    """Arms points of a platform's services, waits until a process is held there, and kills the service."""

    def __init__(self, platform: Platform, holds: Path, until: Until) -> None:
        self.platform = platform
        self._holds = holds
        self._until = until

    def arm(self, service: str, name: str) -> None:
        folder = self._holds / service
        folder.mkdir(exist_ok=True)
        (folder / point(name)).touch()

    def held(self, service: str, name: str) -> Held:
        path = self._holds / service / f"{point(name)}.held"
        self._until(f"{service} in {name}", path.exists)
        held = Held.read(path)
        assert held.span_id
        assert not self.finished(service) & {held.span_id, held.parent_id}
        return held

    def kill(self, service: str, name: str) -> Held:
        held = self.held(service, name)
        pid = self.platform.signal(service, signal.SIGKILL)
        self._until(f"{service} runs again", lambda: self.platform.pid(service) not in (0, pid))
        (self._holds / service / f"{point(name)}.held").unlink()
        return held

    def finished(self, service: str) -> set[str]:
        """Return the ids of the spans that a service has finished and written."""
        path = self.platform.home / "telemetry" / f"{service}-0.jsonl"
        return {span["span_id"] for span in _spans(path)}


def _spans(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # the line that a killed process was writing


@dataclass
class Story:
    """What happened to the pipeline while its services were killed, one after another."""

    platform: Platform
    killer: Killer
    holds: dict[tuple[str, str], Held] = field(default_factory=dict)
    orphans: dict[str, int] = field(default_factory=dict)


def document() -> str:
    """Return the digits under another name, frozen by the count alone, learnt quickly, never cached."""
    changed = DIGITS.replace("{name: digits}", f"{{name: {NAME}}}").replace("topic: digits", f"topic: {NAME}")
    changed = changed.replace("model: digits", f"model: {NAME}").replace(", afterIdle: 3s", "")
    changed = changed.replace("cache: redis, cacheTtl: 1h", "cache: off").replace("epochs: 40", "epochs: 8")
    changed = changed.replace("{kind: cnn, channels: [32, 64], hidden: [128]}", "{kind: mlp, hidden: [64]}")
    assert changed.count(NAME) == 3
    assert all(part in changed for part in ("{afterRecords: 1797}", "cache: off", "epochs: 8", "kind: mlp"))
    return changed


def holds_open(platform: Platform, topic: str) -> bool:
    """Return whether a transaction is open in a topic: there is more than readers of committed messages may see."""
    ends = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = KafkaConsumer(bootstrap_servers=platform.bootstrap_servers, isolation_level=isolation)
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        ends.append(consumer.end_offsets(partitions))
        consumer.close(autocommit=False)
    return bool(ends[0] != ends[1])


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, produce: Callable[..., None], until: Until, committed: Committed
) -> Iterator[Story]:
    from headrace_local.launcher import Platform

    holds = tmp_path_factory.mktemp("holds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_HOLD_DIR", str(holds))
        patch.setenv("HEADRACE_CHECKPOINT_S", "0")  # after each epoch: the trainer is killed after the third
        platform = Platform.on_free_ports(tmp_path_factory.mktemp("killed"))
        platform.start()
    try:
        told = Story(platform, Killer(platform, holds, until))
        with RegistryClient(platform.addresses["registry"]) as registry:
            _tell(told, registry, produce, until, committed)
        yield told
    finally:
        platform.stop()


def _tell(
    told: Story, registry: RegistryClient, produce: Callable[..., None], until: Until, committed: Committed
) -> None:
    platform, killer = told.platform, told.killer

    def kill(service: str, name: str) -> Held:
        told.holds[service, name] = held = killer.kill(service, name)
        return held

    registry.apply(document(), create_topic=True)
    for service, name in (
        ("ingestion", "commit"),
        ("preprocessing", "commit"),
        ("preprocessing", "manifest"),
        ("model-registry", "commit"),
        ("trainer", "step 3"),
        ("compressor", "step 1"),
    ):
        killer.arm(service, name)
    produce(platform, NAME)

    for service, topic in (("ingestion", raw_topic(NAME)), ("preprocessing", clean_topic(NAME))):
        killer.held(service, "commit")
        until(f"a transaction open in {topic}", lambda topic=topic: holds_open(platform, topic))
        kill(service, "commit")

    killer.held("preprocessing", "manifest")
    objects = [path for path in (platform.home / "objects" / "sha256").rglob("*") if path.is_file()]
    assert any(path.read_bytes()[:4] == b"PAR1" for path in objects)
    assert not committed(platform, topic_of(dataset_pb2.DatasetFrozen).name)
    kill("preprocessing", "manifest")

    killer.held("model-registry", "commit")
    until("a transaction open in the log", lambda: holds_open(platform, REGISTRY_LOG.name))
    kill("model-registry", "commit")

    for service, step in (("trainer", 3), ("compressor", 1)):
        span = killer.held(service, f"step {step}").span_id
        until(
            f"the {service} tells of step {step}",
            lambda span=span, step=step: (span, step) in _told(platform, committed),
        )
        told.orphans[service] = kill(service, f"step {step}").pid
    wait_for(registry, NAME, Goal.RELEASED, timeout_s=150)


def _told(platform: Platform, committed: Committed) -> set[tuple[str, int]]:
    """Return the steps that workers have told of, each with the id of the span of its run."""
    return {
        ((record.header("traceparent") or "").split("-")[2], run_pb2.RunProgressed.FromString(record.value or b"").step)
        for record in committed(platform, topic_of(run_pb2.RunProgressed).name)
    }


def facts(platform: Platform, committed: Committed, kind: type[Message]) -> list[Any]:
    return [kind.FromString(record.value or b"") for record in committed(platform, topic_of(kind).name)]


def keys(platform: Platform, committed: Committed, topic: str) -> list[str]:
    batches = [record_pb2.RecordBatch.FromString(record.value or b"") for record in committed(platform, topic)]
    return [key for batch in batches for key in from_ipc(batch.arrow).column("id").to_pylist()]


def test_no_span_that_held_a_killed_process_was_finished(story: Story) -> None:
    assert len({held.span_id for held in story.holds.values()}) == 6
    for (service, _), held in story.holds.items():
        assert not story.killer.finished(service) & {held.span_id, held.parent_id}


def test_the_dataset_is_the_one_of_an_undisturbed_platform(
    story: Story, committed: Committed, released: dict[str, Any], registry: RegistryClient
) -> None:
    """The same records give the same dataset, here on another platform and by services that were killed."""
    (frozen,) = facts(story.platform, committed, dataset_pb2.DatasetFrozen)
    assert frozen.dataset_id == registry.datasets("digits")[-1].frozen.dataset_id
    assert frozen.rows.train + frozen.rows.validation + frozen.rows.test == RECORDS


def test_no_row_is_lost_or_doubled(story: Story, committed: Committed) -> None:
    expected = sorted(f"digit-{number:04d}" for number in range(RECORDS))
    raw, clean = (keys(story.platform, committed, topic) for topic in (raw_topic(NAME), clean_topic(NAME)))
    assert sorted(clean) == expected
    assert sorted(raw) == sorted([*expected, "digit-1500", "too-dark"])
    assert len(committed(story.platform, dead_topic(NAME))) == 6
    with RegistryClient(story.platform.addresses["registry"]) as registry:
        found = walk(registry.log_lines())
    assert (found.begins, found.unchained, found.first_break) == (0, 0, None)


@pytest.mark.parametrize(
    "kind",
    [
        evaluation_pb2.TrainingDecided,
        run_pb2.TrainingRequested,
        model_pb2.ModelTrained,
        run_pb2.CompressionRequested,
        model_pb2.ModelCompressed,
        model_pb2.ModelReleased,
    ],
)
def test_every_command_and_every_fact_is_there_once(story: Story, committed: Committed, kind: type[Message]) -> None:
    assert len(facts(story.platform, committed, kind)) == 1
    assert not facts(story.platform, committed, run_pb2.RunFailed)


def test_runs_go_on_under_a_new_attempt_and_orphans_end(story: Story, committed: Committed, until: Until) -> None:
    (trained,) = facts(story.platform, committed, model_pb2.ModelTrained)
    (compressed,) = facts(story.platform, committed, model_pb2.ModelCompressed)
    assert (trained.attempt, compressed.attempt) == (2, 2)
    steps = defaultdict(list)
    for progress in facts(story.platform, committed, run_pb2.RunProgressed):
        steps[progress.run_id, progress.attempt].append(progress.step)
    assert max(steps[trained.run_id, 1]) == 3
    assert min(steps[trained.run_id, 2]) == 4, "the second attempt takes up the checkpoint of the first"
    assert max(steps[compressed.run_id, 1]) == 1
    assert min(steps[compressed.run_id, 2]) == 1
    for service, pid in story.orphans.items():
        until(f"the orphan of the {service} ends", lambda pid=pid: not _lives(pid), 30)


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_inference_killed_under_load_gives_the_same_answers_afterwards(story: Story, until: Until) -> None:
    platform = story.platform
    images = _images(platform)
    load = Load(platform.addresses["inference"], images)
    with load:
        until("answers before the kill", lambda: load.answers >= 100)
        story.killer.arm("inference", "infer")
        held = story.killer.kill("inference", "infer")
        before = load.answers
        until("answers after the kill", lambda: load.answers >= before + 2 * len(images))
    assert held.span_id not in story.killer.finished("inference")
    assert not load.failures
    assert all(len(labels) == 1 for labels in load.labels.values())
    assert len(load.labels) == len(images)
    assert load.versions == {"1"}
    assert load.outages


def test_an_evaluation_and_a_decision_are_made_once_and_a_quiet_stream_trains_nothing(
    story: Story, committed: Committed, until: Until
) -> None:
    platform, killer = story.platform, story.killer
    killer.arm("compressor", "step 1")
    rows = _send_some_again(platform)
    with RegistryClient(platform.addresses["registry"]) as registry:
        first = registry.datasets(NAME)[-1].frozen.dataset_id
        until("the rows are clean", lambda: next(registry.watch(NAME)).filling.rows == rows)
        registry.freeze(NAME)
        killer.held("compressor", "step 1")
        killer.arm("model-registry", "commit")
        killer.kill("compressor", "step 1")
        killer.kill("model-registry", "commit")
        until("the registry answers", lambda: _answers(registry))
        progress = wait_for(registry, NAME, Goal.RELEASED, timeout_s=150, after=first)
        decided = [each.decided for each in registry.decisions(NAME)]
    (evaluated,) = facts(platform, committed, evaluation_pb2.ModelEvaluated)
    assert (evaluated.attempt, evaluated.now.rows) == (2, rows)
    assert len(facts(platform, committed, evaluation_pb2.EvaluationRequested)) == 1
    assert decided == facts(platform, committed, evaluation_pb2.TrainingDecided)
    assert [(each.cause, each.trained) for each in decided] == [("first", True), ("quiet", False)], decided[-1].reason
    assert len(facts(platform, committed, run_pb2.TrainingRequested)) == 1
    assert progress.stages[-1].mark is Mark.SKIPPED


def _answers(registry: RegistryClient) -> bool:
    try:
        return bool(registry.pipelines(NAME))
    except (Unreachable, NotReady):
        return False


def _send_some_again(platform: Platform) -> int:
    """Send every fourth digit under another name: rows as they were. Return how many."""
    scans = load_digits()
    values = [
        {"id": f"again-{at}", "image": f"again-{at}", "pixels": scans.images[at].tolist(), "digit": int(digit)}
        for at, digit in list(enumerate(scans.target))[::4]
    ]
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for value in values:
        producer.send(NAME, json.dumps(value).encode())
    producer.flush()
    producer.close()
    return len(values)


def _images(platform: Platform) -> Array:
    with RegistryClient(platform.addresses["registry"]) as registry:
        frozen = registry.datasets(NAME)[-1].frozen
    store = ObjectStore(platform.connections.store_url)
    images: Array = DatasetReader(Manifest.from_json(store.get(frozen.manifest)), store).columns("test")["pixels"]
    return images


class Load:
    """Clients that call without pause; a server that is away is called again."""

    def __init__(self, address: str, images: Array) -> None:
        self._address = address
        self._images = images
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._guarded, args=(start,)) for start in range(CLIENTS)]
        self.answers = 0
        self.outages = 0
        self.labels: dict[int, set[int]] = defaultdict(set)
        self.versions: set[str] = set()
        self.failures: list[BaseException] = []

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, start: int) -> None:
        try:
            with InferenceClient(self._address) as client:
                self._call(client, start)
        except BaseException as error:
            self.failures.append(error)

    def _call(self, client: InferenceClient, number: int) -> None:
        while not self._stop.is_set():
            try:
                result = client.infer(NAME, {"pixels": self._images[number][np.newaxis]})
            except (Unreachable, NotReady):
                with self._lock:
                    self.outages += 1
                self._stop.wait(0.1)
                continue
            with self._lock:
                self.answers += 1
                self.labels[number].add(int(result.outputs["label"][0]))
                self.versions.add(result.version)
            number = (number + CLIENTS) % len(self._images)
