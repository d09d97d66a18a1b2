"""Which of the variants that passed are served, in what order, and on which processors."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_data.tasks import TASKS
from headrace_model_registry.core import facts, specs
from headrace_model_registry.core.choice import on_frontier, ordered
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.classes import GateResult
from headrace_model_registry.core.wishes import Rollback
from headrace_model_registry.transport.converters import from_message, to_message

ACCURACY = TASKS["classification"].headline
FIGURES = {
    # accuracy, ms at one row, p99, bytes
    "fp32": (0.970, 1.00, 3.0, 1000),
    "int8": (0.960, 0.30, 0.9, 300),
    "fp16": (0.970, 1.10, 3.2, 500),
    "small": (0.950, 0.50, 2.0, 200),
    "near": (0.965, 0.95, 1.9, 990),
}


def variant(name):
    quality, latency, p99, size = FIGURES[name]
    metrics = {"accuracy": quality, "latency_ms_batch_1": latency, "latency_p99_ms_batch_1": p99, "size_bytes": size}
    return facts.Variant(name, Artifact(f"store/{name}", f"sha256:{name}", size), metrics)


VARIANTS = [variant(name) for name in FIGURES]


def objective_of(text):
    document = DOCUMENT.format(serve=text)
    pipeline = load_pipeline(document)
    return specs.objective(facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))


DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: table}}
stream:
  topic: table
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: mass, type: float32, role: feature}}
    - {{name: species, type: string, role: label}}
train: {{network: {{kind: mlp, hidden: [4]}}}}
serve: {{{serve}}}
"""


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ("", ["int8"]),
        ("objective: fastest", ["int8"]),
        # Of equal quality the faster; near takes 0.95 of its time, which is no less, and small is worse than int8.
        ("objective: quality", ["fp32", "int8"]),
        ("objective: {p99: 2ms}", ["near", "int8"]),
        ("objective: {p99: 1ms}", ["int8"]),
        ("objective: {size: 1MB}", ["fp32", "int8"]),
        ("objective: {p99: 2ms, size: 1MB}", ["near", "int8"]),
        # None is within: the one nearest to it.
        ("objective: {p99: 1ms, size: 1MB}", ["int8"]),
    ],
)
def test_the_objective_chooses_and_what_takes_less_time_follows(objective, names):
    assert [each.name for each in ordered(VARIANTS, (), objective_of(objective), ACCURACY)] == names


def test_where_no_variant_is_within_its_bounds_the_nearest_is_served():
    objective = load_pipeline(DOCUMENT.format(serve="objective: {p99: 1ms}")).serve.objective
    slow = [variant("fp32"), variant("small")]
    assert [each.name for each in ordered(slow, (), objective, ACCURACY)] == ["small"]


def test_weights_beside_a_graph_count_as_its_size():
    objective = load_pipeline(DOCUMENT.format(serve="objective: {size: 1MB}")).serve.objective
    large = variant("fp32")
    large = replace(large, graph=replace(large.graph, size_bytes=10, beside_bytes=2_000_000))
    untold = {name: each for name, each in large.metrics.items() if name != "size_bytes"}
    for metrics in (large.metrics | {"size_bytes": 2_000_010.0}, untold):
        found = [replace(large, metrics=metrics), variant("int8")]
        assert [each.name for each in ordered(found, (), objective, ACCURACY)] == ["int8"]


def test_a_base_that_versions_share_does_not_count_as_the_size_of_an_adapter():
    objective = load_pipeline(DOCUMENT.format(serve="objective: {size: 1MB}")).serve.objective
    adapter = variant("near")
    adapter = replace(adapter, graph=replace(adapter.graph, beside_bytes=2_000_000))
    whole = replace(variant("fp32"), metrics=variant("fp32").metrics | {"size_bytes": 2_000_000.0})
    assert [each.name for each in ordered([whole, adapter], (), objective, ACCURACY)] == ["near"]


def test_what_failed_is_neither_chosen_nor_on_the_frontier():
    failed = (GateResult("int8", "agreement", False, 0.98, 0.5),)
    assert [each.name for each in ordered(VARIANTS, failed, "quality", ACCURACY)] == ["fp32", "small"]
    assert on_frontier(VARIANTS, failed, ACCURACY) == ("fp32", "fp16", "small", "near")
    assert (
        ordered(VARIANTS, tuple(GateResult(n, "finite", False, 0.0, 1.0) for n in FIGURES), "quality", ACCURACY) == ()
    )


ANSWERS = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: answers}
stream:
  topic: answers
  schema:
    - {name: id, type: string, role: id}
    - {name: prompt, type: string, role: feature}
    - {name: answer, type: string, role: label}
prepare: {transform: {prompt: {encode: text}}}
train: {task: generation, network: {kind: causal-lm, digest: 'sha256:%s', sizeBytes: 10}}
compress: {variants: [{kind: gguf-q8}]}
serve: %s
"""


def answering(serve):
    pipeline = load_pipeline(ANSWERS % ("0" * 64, serve))
    return facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest)


def test_a_release_says_which_servers_have_it_and_serves_what_they_take(story):
    elsewhere = answering("{engine: {kind: upstream, urls: ['http://vllm:8000'], variant: fp32, key: vllm}}")
    told = specs.upstream(elsewhere)
    assert told == facts.Upstream(("http://vllm:8000",), "{model}-v{version}", "vllm")
    assert [each.name for each in specs.servable(VARIANTS, elsewhere)] == ["fp32"]
    here = answering("{cache: off}")
    assert specs.upstream(here) is None
    assert specs.servable(VARIANTS, here) == VARIANTS
    released = replace(story.release(), upstream=told)
    assert from_message(facts.ModelReleased, to_message(released)) == released


def test_a_version_knows_its_frontier_and_what_it_was_measured_on(story, ledger):
    released = story.release()
    (version,) = ledger.catalogue.versions.values()
    assert (version.cpu_class, version.frontier) == ("avx2", ("int8",))
    assert released.degrade is False
    assert released.withholds is False


def test_a_release_of_a_pipeline_with_personal_fields_withholds_calls():
    personal = ANSWERS.replace("stream:", "stream:\n  personal: {fields: {email: drop}}", 1)
    pipeline = load_pipeline(personal % ("0" * 64, "{cache: off}"))
    assert specs.withholds(facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    assert not specs.withholds(answering("{cache: off}"))
    assert not specs.records(answering("{cache: off}"))


def test_a_rollback_brings_back_what_each_class_served(story, ledger):
    first = story.release(1)
    story.release(2, right=145)
    (again,) = ledger.grant(Rollback("digits", 1))
    assert (again.classes, again.unmeasured) == (first.classes, first.unmeasured)


def test_a_measurement_without_a_class_is_served_everywhere_as_before(story, world, ledger):
    released = ledger.decide(replace(world.compressed(story.compress()), cpu_class=""))
    assert (released.variant, released.classes, released.unmeasured) == ("int8", (), None)


def test_where_fp32_fails_what_is_limited_whatever_the_processor_no_other_class_gets_it(story, world, ledger):
    measured = world.compressed(story.compress())
    fp32 = replace(measured.variants[0], metrics={**measured.variants[0].metrics, "non_finite_rows": 1.0})
    released = ledger.decide(replace(measured, variants=(fp32, *measured.variants[1:])))
    assert ([each.variant for each in released.classes[0].variants], released.unmeasured) == (["int8"], None)
