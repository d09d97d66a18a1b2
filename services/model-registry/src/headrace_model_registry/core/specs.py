"""What the policy reads of a pipeline's spec, and the ids that it derives from it."""

import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache

from headrace_data.spec import (
    Gates,
    Objective,
    Pipeline,
    Privacy,
    Rollout,
    Triggers,
    learns,
    own_name,
    parse_canonical,
)
from headrace_data.tasks import (
    COMMON_GATES,
    EMBEDDING_GATE,
    MEMBERSHIP_GATE,
    SOUND_GATES,
    TASKS,
    Gate,
    Measure,
    in_each_slice,
    not_worse,
    not_worse_in_slices,
    reached,
)
from headrace_runtime.record_topics import SCORING_GROUP, group_of, raw_topic

from headrace_model_registry.core.facts import (
    CachePolicy,
    DatasetFrozen,
    PipelineApplied,
    PipelineSpec,
    Upstream,
    Variant,
)
from headrace_model_registry.core.facts.classes import GateResult
from headrace_model_registry.core.gates import Limit, Sureness, judge

_ID_DIGITS = 32
"""Hexadecimal digits of a run id: 128 bits, so two different runs never share one."""


@lru_cache(maxsize=256)
def parse(spec: PipelineSpec) -> Pipeline:
    """Return the pipeline that a spec describes."""
    return parse_canonical(spec.json)


def settled(pipeline: Pipeline, before: PipelineSpec | None) -> Pipeline:
    """Return a pipeline with the type of its predictions said; `before` is its spec in force, None for a new pipeline.

    A label that float32 cannot hold is answered in float64, but for pipelines whose clients were promised FP32: what a
    document leaves out goes on as it was.
    """
    if pipeline.train.prediction_type is not None or not TASKS[pipeline.task].answers_numbers:
        return pipeline
    known = parse(before) if before is not None else None
    if known is not None and TASKS[known.task].answers_numbers:
        chosen = known.train.prediction_type
    else:
        chosen = None if pipeline.stream.label.fits_float32 else "float64"
    if chosen is None:
        return pipeline
    plain = pipeline.plain()
    return parse_canonical(json.dumps({**plain, "train": {**plain["train"], "predictionType": chosen}}).encode())


def same_rows(one: PipelineSpec, other: PipelineSpec) -> bool:
    """Tell whether a model made for the one spec can answer rows of the other: same features, same gaps, same label."""
    return _signature(parse(one)) == _signature(parse(other))


def same_preparation(one: PipelineSpec, other: PipelineSpec) -> bool:
    """Tell whether both specs make the same dataset of the same records: topic, schema, preparation and split rule."""
    return parse(one).preparation == parse(other).preparation


def same_split(one: PipelineSpec, other: PipelineSpec) -> bool:
    """Tell whether both specs keep the same rows apart for tests."""
    return parse(one).split_digest == parse(other).split_digest


def same_question(one: PipelineSpec, other: PipelineSpec) -> bool:
    """Tell whether versions trained by both specs answer the same: not other quantiles, or places of other names.

    A label whose places have no names may have any: they can be given later.
    """
    both = (parse(one), parse(other))
    tasks = [(parsed.task, TASKS[parsed.task].question(parsed.train)) for parsed in both]
    named = {parsed.stream.label.places for parsed in both} - {None}
    return tasks[0] == tasks[1] and len(named) < 2


def topic(spec: PipelineSpec) -> str:
    """Return the producers' topic that a pipeline reads."""
    return parse(spec).stream.topic


def scored(spec: PipelineSpec) -> str | None:
    """Return the topic whose records a pipeline's model answers on a topic; None where it answers none."""
    return parse(spec).scored


def scoring_group(own: str) -> str:
    """Return the consumer group that reads these, of a pipeline by the name that it alone ever has."""
    return SCORING_GROUP.format(pipeline=own)


def privacy(spec: PipelineSpec) -> Privacy | None:
    """Return what a pipeline's runs may tell of a row; None where they promise nothing."""
    return parse(spec).train.privacy


def readers(applied: PipelineApplied) -> list[tuple[str, str]]:
    """Return the consumer groups that read a pipeline's records, each with its topic."""
    own, scores = own_name(applied.pipeline, applied.incarnation), scored(applied.spec)
    return [
        (group_of("ingestion", own), topic(applied.spec)),
        (group_of("preprocessing", own), raw_topic(own)),
        *([(scoring_group(own), scores)] if scores else []),
    ]


def limits(spec: PipelineSpec) -> tuple[Limit, ...]:
    """Return the limits of a pipeline's gates; one without a limit judges nothing."""
    parsed = parse(spec)
    gates = parsed.compress.gates
    task = TASKS[parsed.task]
    embeddings = (EMBEDDING_GATE,) if parsed.answers_embeddings else ()
    asked = [
        (gate, getattr(gates, gate.setting)) for gate in (*task.gates, *COMMON_GATES, *embeddings, MEMBERSHIP_GATE)
    ]
    learning = frozenset(each.called for each in parsed.compress.variants if learns(each))
    held = [Limit(gate, value, _spared(gate, value, learning)) for gate, value in asked if value is not None]
    held += [Limit(reached(task.measures[name]), value) for name, value in gates.limits.items()]
    held += [Limit(not_worse(task.measures[name]), value) for name, value in gates.worse.items()]
    held += [Limit(in_each_slice(task.measures[name], gates.slice_rows), value) for name, value in gates.slices.items()]
    within = gates.worse_in_slices.items()
    held += [Limit(not_worse_in_slices(task.measures[name], gates.slice_rows), value) for name, value in within]
    held += [Limit(gate, 0.0) for gate in SOUND_GATES]
    said = {each.gate.name for each in held}
    held += [Limit(gate, value, alone=learning) for gate, value in task.learned if learning and gate.name not in said]
    return tuple(held)


def _spared(gate: Gate, value: float, learning: frozenset[str]) -> frozenset[str]:
    """Return the variants that a gate does not judge: those that learn anew, where its limit is nobody's wish."""
    return learning if gate.of_weights and value == Gates.model_fields[gate.setting].default else frozenset()


def sureness(spec: PipelineSpec) -> Sureness | None:
    """Return how certain gates must hold, None where what was measured decides."""
    parsed = parse(spec)
    certainty = parsed.compress.gates.certainty
    return None if certainty is None else Sureness(TASKS[parsed.task].headline, certainty)


def judged(variants: Sequence[Variant], spec: PipelineSpec) -> tuple[GateResult, ...]:
    """Return every gate of every variant, as a pipeline sets them."""
    return judge(variants, limits(spec), sureness(spec))


def measure(spec: PipelineSpec) -> str:
    """Return the name of the measure by which a pipeline compares versions; empty for its task's own."""
    return parse(spec).compress.gates.measure or ""


def wants_baseline(spec: PipelineSpec) -> bool:
    """Tell whether a version without a champion to be compared with must reach its baseline."""
    return parse(spec).compress.gates.baseline == "required"


def balanced(spec: PipelineSpec) -> bool:
    """Tell whether each class counts alike while a pipeline's versions are trained."""
    train = parse(spec).train
    return train.class_weights == "balanced" or bool(train.augment and train.augment.oversample)


def quality(spec: PipelineSpec) -> Measure:
    """Return the measure by which a pipeline's variants and versions are told apart."""
    parsed = parse(spec)
    return TASKS[parsed.task].measure(parsed.compress.gates.measure)


def objective(spec: PipelineSpec) -> Objective:
    """Return by what one of the variants that passed is chosen."""
    return parse(spec).serve.objective


def classes(spec: PipelineSpec) -> tuple[str, ...]:
    """Return the classes of processors that a pipeline's replicas have, as far as it names them."""
    return parse(spec).serve.classes


def degrades(spec: PipelineSpec) -> bool:
    """Tell whether replicas under overload may answer with a variant that takes less time."""
    return parse(spec).serve.degrade


def records(spec: PipelineSpec) -> bool:
    """Return whether answers wait until they are recorded: a pipeline's quality is measured live."""
    return parse(spec).serve.quality


def rollout(spec: PipelineSpec) -> Rollout | None:
    """Return the steps in which a version takes the champion's place; None where it does so at once."""
    return parse(spec).serve.rollout


def withholds(spec: PipelineSpec) -> bool:
    """Tell whether calls are left out of the log of predictions, as the pipeline has personal fields."""
    return parse(spec).stream.personal is not None


def servable(variants: Sequence[Variant], spec: PipelineSpec) -> Sequence[Variant]:
    """Return the variants that can be served where the pipeline has them served."""
    engine = parse(spec).serve.engine
    return [each for each in variants if engine is None or engine.variant in (None, each.name)]


def upstream(spec: PipelineSpec) -> Upstream | None:
    """Return the servers outside of the replicas that a pipeline's model is served by; None for the replicas."""
    engine = parse(spec).serve.engine
    return None if engine is None else Upstream(engine.urls, engine.model, engine.key or "")


def cache_policy(spec: PipelineSpec) -> CachePolicy:
    """Return where hot predictions of the pipeline's model are kept."""
    return CachePolicy[parse(spec).serve.cache.upper()]


def cache_ttl_s(spec: PipelineSpec) -> int:
    """Return how long a hot prediction is kept, in whole seconds, at least one: zero would say nothing."""
    return math.ceil(parse(spec).serve.cache_ttl)


def training_run_id(frozen: DatasetFrozen, spec: PipelineSpec) -> str:
    """Return the id of training on a dataset by a spec.

    The same work has the same id: it depends on the dataset, the schema and the `train` section with its seed, and not
    on what else the spec says. The pipeline is part of it, or a second pipeline over the same rows would get no model.
    """
    parsed = parse(spec)
    train = parsed.train.plain()
    train.pop("when", None)  # it says whether a run begins, and nothing of what it learns
    if parsed.train.privacy is not None:
        train["privacy"].pop("total", None)  # as when
    pipeline = own_name(frozen.pipeline, frozen.incarnation)
    return "train-" + _digest(pipeline, frozen.dataset_id, parsed.schema_digest, train, parsed.train.seed)


def evaluation_run_id(pipeline: str, version_id: str, segment_id: str, spec: PipelineSpec) -> str:
    """Return the id of scoring a version on a segment; `pipeline` is the name that the pipeline alone ever has."""
    parsed = parse(spec)
    return "evaluate-" + _digest(
        pipeline,
        version_id,
        segment_id,
        parsed.schema_digest,
        parsed.prepare_digest,
        parsed.positive,
        parsed.train.slices,
    )


def triggers(spec: PipelineSpec) -> Triggers | None:
    """Return for what a pipeline's datasets are trained on, None where each of them is."""
    when = parse(spec).train.when
    return when if isinstance(when, Triggers) else None


def compression_run_id(pipeline: str, version_id: str, champion_id: str, spec: PipelineSpec) -> str:
    """Return the id of compressing a version by a spec beside a champion; `champion_id` is empty when there is none.

    `pipeline` is the name that the pipeline alone ever has.
    """
    return "compress-" + _digest(pipeline, version_id, champion_id, parse(spec).compress.plain())


def recalibration_digest(pipeline: str, version_id: str, dataset_id: str, spec: PipelineSpec) -> str:
    """Return what tells a recalibration of a version with a dataset apart; `pipeline` is as for a compression."""
    return _digest(pipeline, version_id, dataset_id, parse(spec).compress.plain())


def measurement_digest(pipeline: str, version_id: str, dataset_id: str, cpu_class: str, spec: PipelineSpec) -> str:
    """Return what tells a measurement on a class of processors apart; `pipeline` is as for a compression."""
    return _digest(pipeline, version_id, dataset_id, cpu_class, parse(spec).compress.plain())


def canary_digest(
    pipeline: str, version_id: str, champion_id: str, history: str, last_s: int, spec: PipelineSpec
) -> str:
    """Return what tells a version held against another on rows apart; `pipeline` is as for a compression."""
    parsed = parse(spec)
    rows = (parsed.schema_digest, parsed.prepare_digest, parsed.positive, parsed.train.slices, measure(spec))
    return _digest(pipeline, version_id, champion_id, history, last_s, *rows)


def _signature(pipeline: Pipeline) -> tuple[object, ...]:
    features = sorted(pipeline.stream.features, key=lambda field: field.name)
    label = pipeline.stream.label
    taken = tuple((field.name, field.type, field.shape, pipeline.optional(field.name)) for field in features)
    return (*taken, (label.name, label.type, label.shape))


def _digest(*parts: object) -> str:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]
