"""A small world for tests: facts as the other services would report them, and a log that is kept by hand."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.draft import Draft
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.queries import Lag
from headrace_model_registry.core.registry import Registry
from headrace_model_registry.core.state import State
from headrace_model_registry.core.wishes import Rollback

START = datetime(2026, 1, 1, tzinfo=UTC)

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {topic}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: pixels, type: float32, shape: [{width}], role: feature, range: [0, {highest}]}}
    - {{name: digit, type: int64, role: label, range: [0, 9]}}
prepare: {{clean: {{missing: {missing}}}, split: {{salt: {salt}}}}}
train:
  network: {{kind: mlp, hidden: [{hidden}]}}
  seed: {seed}
  when: {when}
compress:
  variants: [{{kind: int8-dynamic}}]
  gates: {{agreement: {agreement}}}
serve: {{cache: {cache}, cacheTtl: {cache_ttl}}}
"""
DEFAULTS = {
    "name": "digits",
    "width": 64,
    "highest": 16,
    "missing": "drop",
    "salt": "headrace",
    "hidden": 128,
    "seed": 7,
    "when": "always",
    "agreement": 0.98,
    "cache": "redis",
    "cache_ttl": "1h",
}


def digest(*parts):
    return "sha256:" + hashlib.sha256(repr(parts).encode()).hexdigest()


def artifact(*parts, size=1000):
    return Artifact(f"store/{'-'.join(str(part) for part in parts)}", digest(*parts), size)


class World:
    """Makes the facts that other services would report."""

    def document(self, **changes):
        values = DEFAULTS | changes
        return DOCUMENT.format(**{"topic": values["name"]} | values).encode()

    def applied(self, **changes):
        pipeline = load_pipeline(self.document(**changes))
        spec = facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest)
        return facts.PipelineApplied(pipeline.name, spec, 3)

    def next_life(self, applied):
        """Return the same pipeline as it is applied after it was deleted."""
        return replace(applied, incarnation=applied.incarnation + 1)

    def frozen(self, applied, number=1, request_id=""):
        dataset_id = digest("dataset", applied.pipeline, number)
        return facts.DatasetFrozen(
            pipeline=applied.pipeline,
            dataset_id=dataset_id,
            spec_digest=applied.spec.digest,
            manifest=artifact("manifest", dataset_id),
            rows=facts.SplitRows(700, 150, 150),
            sources=(facts.SourceRange(0, 0, 1000),),
            rejected={"range": 2},
            request_id=request_id,
            incarnation=applied.incarnation,
        )

    def cut(self, applied, number=1, rows=300):
        """Return a dataset with the segment that a cut wrote for it."""
        segment_id = digest("segment", applied.pipeline, number)
        segment = facts.SegmentReference(
            segment_id, artifact("segment", segment_id), artifact("sketch", segment_id), rows
        )
        return replace(self.frozen(applied, number), segment=segment)

    def evaluated(self, request, now=0.97, before=0.97, drift=0.02, field="pixels"):
        """Return what a version scores on a segment of 300 rows, each figure within 0.02."""
        then, latest = (
            facts.Scored(300, (facts.Bounded("accuracy", value, value - 0.02, value + 0.02),), {"accuracy": value})
            for value in (before, now)
        )
        moved = facts.Drift(field, "psi", drift, 0.03, 0.09)
        answers = facts.Drift("", "psi", 0.01, 0.03, 0.09)
        version, segment = request.version.version_id, request.segment.segment_id
        return facts.ModelEvaluated(
            request.run_id, request.pipeline, version, segment, "classification", then, latest, 0.998, (moved,), answers
        )

    def trained(self, request, model=None, accuracy=0.97):
        version_id = digest("version", request.run_id)
        return facts.ModelTrained(
            run_id=request.run_id,
            pipeline=request.pipeline,
            model=model or request.pipeline,
            version_id=version_id,
            dataset_id=request.dataset.dataset_id,
            manifest=artifact("version", version_id),
            graph=artifact("graph", version_id),
            weights=artifact("weights", version_id),
            metrics={"accuracy": accuracy},
            epochs=40,
        )

    def compressed(self, request, right=140, champion_right=140, int8=None, rows=150):
        """Return a result in which each version has so many right answers on each test split of `rows` rows."""
        version_id = request.candidate.version_id
        accuracy = right / rows
        fp32 = {"accuracy": accuracy, "agreement": 1.0, "relative_logit_error": 0.0}
        fp32 |= {"size_bytes": 1000.0, "latency_ms_batch_1": 0.2}
        small = {"accuracy": accuracy, "agreement": 0.99, "relative_logit_error": 0.01}
        small |= {"size_bytes": 300.0, "latency_ms_batch_1": 0.1} | (int8 or {})
        references = [request.candidate, *([request.champion] if request.champion else [])]
        scores = {request.candidate.version_id: right}
        if request.champion:
            scores[request.champion.version_id] = champion_right
        evaluations = tuple(
            facts.Evaluation(scored, dataset_id, rows, {"accuracy": count / rows})
            for dataset_id in dict.fromkeys(reference.dataset.dataset_id for reference in references)
            for scored, count in scores.items()
        )
        return facts.ModelCompressed(
            run_id=request.run_id,
            pipeline=request.pipeline,
            version_id=version_id,
            variants=(
                facts.Variant("fp32", request.candidate.graph, fp32),
                facts.Variant("int8", artifact("int8", version_id, size=300), small),
            ),
            evaluations=evaluations,
            champion_id=request.champion.version_id if request.champion else "",
            cpu_class="avx2",
        )

    def failed(self, request, reason="loss is not a number"):
        kinds = {
            facts.TrainingRequested: facts.RunKind.TRAINING,
            facts.CompressionRequested: facts.RunKind.COMPRESSION,
            facts.EvaluationRequested: facts.RunKind.EVALUATION,
        }
        kind = kinds.get(type(request), facts.RunKind.COMPRESSION)
        return facts.RunFailed(request.run_id, request.pipeline, kind, reason)


@dataclass
class Ledger:
    """A catalogue and the log behind it, kept in memory."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    log: list[LogEntry] = field(default_factory=list)

    def learn(self, fact):
        """Record a fact and return what was decided, or the objection to it."""
        draft = Draft(self.catalogue)
        outcome = draft.take(fact, START + timedelta(seconds=len(self.log)))
        if isinstance(outcome, Objection):
            assert draft.catalogue == self.catalogue
            return outcome
        self.catalogue = draft.catalogue
        self.log += outcome
        assert outcome[0].event == fact
        return [entry.event for entry in outcome[1:]]

    def grant(self, wish):
        """Grant a caller's wish and return what followed, or the objection to it."""
        draft = Draft(self.catalogue)
        outcome = draft.take(wish, START + timedelta(seconds=len(self.log)))
        if isinstance(outcome, Objection):
            return outcome
        self.catalogue = draft.catalogue
        self.log += outcome
        return [entry.event for entry in outcome]

    def write(self, *events):
        """Fold entries as an earlier registry wrote them, whatever today's policy says."""
        for event in events:
            entry = LogEntry(START + timedelta(seconds=len(self.log)), event)
            self.catalogue.fold(entry)
            self.log.append(entry)

    def decide(self, fact):
        """Record a fact and return the one decision that followed."""
        (decision,) = self.learn(fact)
        return decision


@dataclass
class Story:
    """A pipeline on its way, one step a method."""

    world: World
    ledger: Ledger
    applied: facts.PipelineApplied
    decided: tuple[facts.Decision, ...] = ()

    def train(self, number=1):
        return self.ledger.decide(self.world.frozen(self.applied, number))

    def fail(self, number=1):
        """Train and fail; return the training request."""
        request = self.train(number)
        assert self.ledger.learn(self.world.failed(request)) == []
        return request

    def compress(self, number=1):
        return self.ledger.decide(self.world.trained(self.train(number)))

    def release(self, number=1, **scores):
        return self.ledger.decide(self.world.compressed(self.compress(number), **scores))

    def changed(self, **changes):
        """Return the story after another spec of the same pipeline was applied, with what was decided then."""
        applied = self.world.applied(**{"name": self.applied.pipeline} | changes)
        return replace(self, applied=applied, decided=tuple(self.ledger.learn(applied)))


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture(scope="session")
def new_ledger():
    return Ledger


@pytest.fixture
def story(world, ledger):
    """The digits pipeline, just applied."""
    applied = world.applied()
    assert ledger.learn(applied) == []
    return Story(world, ledger, applied)


@pytest.fixture
def rivals(world, ledger):
    """Return three stories whose pipelines feed one model and read the same rows."""
    stories = [Story(world, ledger, world.applied(name=name)) for name in ("one", "two", "three")]
    for each in stories:
        ledger.learn(each.applied)
    return stories


class Cluster:
    """Topics in memory."""

    def __init__(self, **partitions):
        self.topics, self.begun = dict(partitions), []

    def partitions_of(self, topic):
        return self.topics.get(topic, 0)

    def max_message_bytes(self, topic):
        return 4_096 if topic in self.topics else 0

    def create(self, topic):
        self.topics.setdefault(topic, 2)

    def create_record_topics(self, pipeline, partitions):
        for stage in ("raw", "clean", "dead"):
            self.topics.setdefault(f"{pipeline}.{stage}", partitions)
        return partitions

    def create_scored_topic(self, pipeline, source):
        self.topics[f"{pipeline}.scored"] = self.topics[source]

    def begin_at_end(self, group, topic):
        self.begun.append((group, topic))

    def belongings(self, pipelines):
        stages = ("raw", "clean", "dead")
        return [f"{each}.{stage}" for each in pipelines for stage in stages], [
            f"ingestion.{each}" for each in pipelines
        ]

    def groups(self, pipelines):
        return self.belongings(pipelines)[1]

    def left_of(self, pipelines):
        return [topic for topic in self.belongings(pipelines)[0] if topic in self.topics]

    def purge(self, pipelines):
        topics, groups = self.belongings(pipelines)
        return [topic for topic in topics if self.topics.pop(topic, None)], groups

    def lags(self, readers):
        self.readers = list(readers)
        behind = [Lag(f"ingestion.{name}", "digits", 7) for name in ("digits", "digits.1")]
        return [*behind, Lag("trainer", "headrace.training.requested.v1", 2)]


class Committed:
    """A writer whose transactions always commit."""

    def __init__(self, ledger, state):
        self.ledger, self.state, self.written, self.shown = ledger, state, [], 0

    def write(self, fact, _until_s=None):
        outcome = self.ledger.grant(fact) if isinstance(fact, Rollback) else self.ledger.learn(fact)
        assert not isinstance(outcome, Objection)
        self.written.append(fact)
        written = self.ledger.log[self.shown :]
        self.shown += len(written)
        self.state.publish(self.ledger.catalogue, written)
        return written


@pytest.fixture
def state():
    return State()


@pytest.fixture
def writer(ledger, state):
    return Committed(ledger, state)


@pytest.fixture
def cluster():
    return Cluster(digits=3)


@pytest.fixture
def registry(state, cluster, writer):
    return Registry(state, cluster, writer, iter(["id-1", "id-2"]).__next__)
