import math
from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_data.tasks import COMMON_GATES, EMBEDDING_GATE, MEMBERSHIP_GATE, TASKS, in_each_slice
from headrace_model_registry.core import specs
from headrace_model_registry.core.choice import ordered
from headrace_model_registry.core.facts import PipelineSpec, Variant
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.classes import GateResult
from headrace_model_registry.core.gates import Limit, judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STEADY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same on a machine with much else to do."""

GATES = ("accuracyDrop", "agreement", "relativeLogitError", "klDivergence", "sizeRatio", "latencyRatio", "benefit")


TEXTS = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: reviews}}
stream:
  topic: reviews
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: review, type: string, role: feature}}
    - {{name: mood, type: string, role: label}}
prepare: {{transform: {{review: {{encode: text}}}}}}
train: {{network: {{kind: encoder, digest: "{digest}", sizeBytes: 7{more}}}}}
"""


TABLE = """
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
compress: {{gates: {{{gates}}}}}
"""


def limits(*values):
    gates = (*TASKS["classification"].gates, *COMMON_GATES)
    assert tuple(gate.name for gate in gates) == GATES
    return [Limit(gate, value) for gate, value in zip(gates, values, strict=True)]


ACCURACY = TASKS["classification"].headline
LIMITS = limits(0.01, 0.98, 0.05, 0.02, 1.0, 1.5, 0.99)
FP32 = {
    "accuracy": 0.97,
    "agreement": 1.0,
    "relative_logit_error": 0.0,
    "kl_divergence": 0.0,
    "size_bytes": 1000.0,
    "latency_ms_batch_1": 0.2,
}
INT8 = {
    "accuracy": 0.97,
    "agreement": 0.99,
    "relative_logit_error": 0.01,
    "kl_divergence": 0.001,
    "size_bytes": 300.0,
    "latency_ms_batch_1": 0.1,
}


def variant(name, metrics, size=1000):
    return Variant(name, Artifact(f"store/{name}", f"sha256:{name}", size), metrics)


def results_of(metrics, limits=LIMITS):
    results = judge([variant("fp32", FP32), variant("int8", metrics)], limits)
    return {result.gate: result for result in results if result.variant == "int8"}


def test_embeddings_are_judged_where_they_are_answered_alone():
    judged = []
    for more in ("", ", embedding: true"):
        pipeline = load_pipeline(TEXTS.format(digest=f"sha256:{64 * '0'}", more=more))
        spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
        judged.append([limit for limit in specs.limits(spec) if limit.gate is EMBEDDING_GATE])
    assert judged == [[], [Limit(EMBEDDING_GATE, 0.99)]]
    for metrics, passed in (({}, False), ({"embedding_cosine": 0.98}, False), ({"embedding_cosine": 0.99}, True)):
        assert results_of(INT8 | metrics, judged[1])["embeddingCosine"].passed is passed


def test_what_losses_give_away_is_judged_where_it_is_limited_alone():
    judged = []
    for gates in ("", "gates: {membershipAuc: 0.55}"):
        text = TEXTS.format(digest=f"sha256:{64 * '0'}", more="") + f"compress: {{{gates}}}\n"
        pipeline = load_pipeline(text)
        spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
        judged.append([limit for limit in specs.limits(spec) if limit.gate is MEMBERSHIP_GATE])
    assert judged == [[], [Limit(MEMBERSHIP_GATE, 0.55)]]
    # fp32 as well: what a version gives away is no matter of how small it is.
    for told, passed in (({}, False), ({"membership_auc": 0.56}, False), ({"membership_auc": 0.55}, True)):
        results = judge([variant("fp32", FP32 | told), variant("int8", INT8 | told)], judged[1])
        assert [result.passed for result in results] == [passed, passed]


def test_every_variant_is_judged_by_every_gate_in_order():
    results = judge([variant("fp32", FP32), variant("int8", INT8)], LIMITS)
    assert [(result.variant, result.gate) for result in results] == [
        (name, gate) for name in ("fp32", "int8") for gate in GATES
    ]
    assert all(result.passed for result in results)


@pytest.mark.parametrize(
    ("metric", "at_limit", "over", "gate", "limit"),
    [
        ("accuracy", 0.96, 0.9599, "accuracyDrop", 0.01),
        ("agreement", 0.98, 0.9799, "agreement", 0.98),
        ("relative_logit_error", 0.05, 0.0501, "relativeLogitError", 0.05),
        ("kl_divergence", 0.02, 0.0201, "klDivergence", 0.02),
        ("size_bytes", 1000.0, 1001.0, "sizeRatio", 1.0),
        ("latency_ms_batch_1", 0.3, 0.3001, "latencyRatio", 1.5),
    ],
)
def test_a_limit_itself_passes_and_more_than_it_fails_that_gate_alone(metric, at_limit, over, gate, limit):
    assert all(result.passed for result in results_of(INT8 | {metric: at_limit}).values())
    results = results_of(INT8 | {metric: over})
    assert [name for name, result in results.items() if not result.passed] == [gate]
    assert results[gate].limit == limit


def test_a_gate_tells_what_was_measured_against_fp32():
    measured = {gate: result.measured for gate, result in results_of(INT8 | {"accuracy": 0.95}).items()}
    assert measured == pytest.approx(
        {
            "accuracyDrop": 0.02,
            "agreement": 0.99,
            "relativeLogitError": 0.01,
            "klDivergence": 0.001,
            "sizeRatio": 0.3,
            "latencyRatio": 0.5,
            "benefit": 0.3,
        }
    )


def test_a_variant_may_be_more_accurate_than_fp32():
    assert results_of(INT8 | {"accuracy": 0.99})["accuracyDrop"].passed


def test_fp32_passes_whatever_the_limits_are_because_they_refer_to_it():
    strict = limits(0.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.5)
    assert all(result.passed for result in judge([variant("fp32", {})], strict))


@pytest.mark.parametrize("missing", list(INT8))
@pytest.mark.parametrize("value", [None, math.nan])
def test_what_was_not_measured_fails_its_gate(missing, value):
    metrics = {name: figure for name, figure in INT8.items() if name != missing}
    if value is not None:
        metrics[missing] = value
    results = results_of(metrics)
    (failed,) = (result for result in results.values() if not result.passed)
    assert math.isinf(failed.measured)


@pytest.mark.parametrize("reference", [{}, FP32 | {"size_bytes": 0.0, "latency_ms_batch_1": 0.0, "accuracy": math.nan}])
def test_nothing_passes_when_fp32_was_not_measured(reference):
    results = judge([variant("fp32", reference), variant("int8", INT8)], LIMITS)
    failed = {result.gate for result in results if not result.passed}
    assert failed == {"accuracyDrop", "sizeRatio", "latencyRatio", "benefit"}


def best(variants, results):
    return next(iter(ordered(variants, results, "fastest", ACCURACY)), None)


def test_no_variant_passes_without_fp32():
    variants = [variant("int8", INT8)]
    assert best(variants, judge(variants, LIMITS)) is None


def test_nothing_measured_is_nothing_judged():
    assert judge([], LIMITS) == ()
    assert best([], ()) is None


def test_the_fastest_passing_variant_is_best():
    variants = [variant("fp32", FP32), variant("int8", INT8), variant("pruned", INT8 | {"latency_ms_batch_1": 0.05})]
    assert best(variants, judge(variants, LIMITS)) == variants[2]


def test_a_failed_variant_is_never_best_however_fast():
    variants = [variant("fp32", FP32), variant("int8", INT8 | {"agreement": 0.5, "latency_ms_batch_1": 0.001})]
    assert best(variants, judge(variants, LIMITS)) == variants[0]


def test_the_smaller_graph_wins_at_equal_latency_and_the_first_at_equal_size():
    same = INT8 | {"latency_ms_batch_1": 0.2}
    sizes = {"b": 500, "a": 400, "c": 400}
    variants = [variant("fp32", FP32), *(variant(name, same | {"size_bytes": size}) for name, size in sizes.items())]
    results = judge(variants, LIMITS)
    assert best(variants, results) == variants[2]
    as_large = replace(variants[1], metrics=same | {"size_bytes": FP32["size_bytes"]})
    assert best([variants[0], as_large], results) == variants[0]


def test_a_variant_without_a_latency_never_beats_one_with():
    variants = [variant("fp32", {}), variant("int8", INT8)]
    assert best(variants, [GateResult("int8", "agreement", True, 0.98, 0.99)]) == variants[1]


@pytest.mark.parametrize(
    ("metrics", "passed"),
    [
        ({"size_bytes": 1000.0, "latency_ms_batch_1": 0.25}, False),
        ({"size_bytes": 990.0, "latency_ms_batch_1": 0.25}, True),
        ({"size_bytes": 1000.0, "latency_ms_batch_1": 0.19}, True),
        ({"size_bytes": 1000.0, "latency_ms_batch_1": 0.25, "latency_ms_batch_32": 1.0}, True),
    ],
)
def test_a_variant_that_is_neither_smaller_nor_faster_is_refused(metrics, passed):
    variants = [variant("fp32", FP32 | {"latency_ms_batch_32": 2.0}), variant("int8", INT8 | metrics)]
    (benefit,) = (each for each in judge(variants, LIMITS) if (each.variant, each.gate) == ("int8", "benefit"))
    assert benefit.passed is passed


@pytest.mark.parametrize(("gate", "metric"), [("finite", "non_finite_rows"), ("repeatable", "unrepeatable_rows")])
def test_one_row_without_a_number_or_with_other_bytes_refuses_a_variant_fp32_too(gate, metric):
    limits = [limit for limit in specs.limits(spec_of()) if limit.gate.name == gate]
    for rows, passed in ((None, True), (0.0, True), (1.0, False)):
        more = {} if rows is None else {metric: rows}
        results = judge([variant("fp32", FP32 | more), variant("int8", INT8 | more)], limits)
        assert [(each.gate, each.passed) for each in results] == [(gate, passed)] * 2


def test_where_certainty_is_asked_for_the_bad_end_of_the_interval_decides():
    spec = spec_of(", certainty: 0.95")
    judged = {
        error: {each.gate: each for each in specs.judged([variant("fp32", FP32), variant("int8", metrics)], spec)}
        for error in (0.0, 0.005, 0.006, None)
        for metrics in [INT8 | ({} if error is None else {"difference_error": error})]
    }
    # Student's t of 19 degrees of freedom: 1.7291.
    assert judged[0.005]["accuracyDrop"].measured == pytest.approx(0.005 * 1.7291, rel=1e-3)
    assert [judged[each]["accuracyDrop"].passed for each in (0.0, 0.005, 0.006, None)] == [True, True, False, False]
    # What a variant must reach by itself is no difference from anything.
    assert all(each["accuracy"].measured == 0.97 for each in judged.values())
    plain = specs.judged([variant("fp32", FP32), variant("int8", INT8)], spec_of())
    assert all(each.passed for each in plain)


def spec_of(gates=""):
    document = TABLE.format(gates=f"limits: {{accuracy: 0.5}}{gates}")
    pipeline = load_pipeline(document)
    return PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)


metrics = st.fixed_dictionaries(
    {},
    optional={name: st.floats(0, 2) for name in ("accuracy", "agreement", "relative_logit_error", "kl_divergence")}
    | {name: st.floats(0, 1e6) for name in ("size_bytes", "latency_ms_batch_1")},
)


@STEADY
@given(st.lists(metrics, max_size=4), metrics)
def test_the_best_variant_passes_and_none_that_passes_is_faster(others, reference):
    variants = [variant("fp32", reference), *(variant(f"v{i}", each) for i, each in enumerate(others))]
    results = judge(variants, LIMITS)
    failed = {result.variant for result in results if not result.passed}
    chosen = best(variants, results)
    assert chosen is not None
    assert chosen.name not in failed
    latency = chosen.metrics.get("latency_ms_batch_1", math.inf)
    assert all(
        latency <= other.metrics.get("latency_ms_batch_1", math.inf) for other in variants if other.name not in failed
    )


def test_the_worst_slice_is_told_of_a_variant_that_fails_by_it():
    sliced = {"slice/sex=f/rows": 40.0, "slice/sex=f/recall": 0.6, "slice/sex=m/rows": 50.0, "slice/sex=m/recall": 0.9}
    gate = in_each_slice(TASKS["classification"].measures["recall"], 30)

    good, bad = ({**sliced, "slice/sex=f/recall": 0.7}, sliced)
    passed, failed = judge([variant("fp32", good), variant("int8", bad)], [Limit(gate, 0.7)])
    (missing,) = judge([variant("fp32", {})], [Limit(gate, 0.7)])

    assert (passed.gate, passed.passed, passed.measured, passed.reason) == ("slice/recall", True, 0.7, "")
    assert (failed.passed, failed.measured) == (False, 0.6)
    assert failed.reason == "int8 slice/recall of sex=f, 40 rows: 0.6, limit 0.7"
    assert (missing.passed, missing.measured) == (False, -math.inf)
    assert missing.reason == "fp32 slice/recall of no slice of 30 rows: -inf, limit 0.7"


LEARNED = "variants: [{kind: distilled, network: {kind: mlp, hidden: [2]}}, {kind: int8-static}], gates: {%s}"


@pytest.mark.parametrize(
    ("said", "judged", "divergence"),
    [
        ("", ["int8-static"], 0.1),
        # What somebody has said holds for all.
        ("relativeLogitError: 0.5", ["distilled", "int8-static"], 0.1),
        ("klDivergence: 0.3", ["int8-static"], 0.3),
    ],
)
def test_a_variant_that_learns_anew_is_judged_by_what_it_answers(said, judged, divergence):
    document = TABLE.format(gates="").replace("gates: {}", LEARNED % said)
    pipeline = load_pipeline(document)
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    metrics = INT8 | {"relative_logit_error": 0.4, "kl_divergence": 0.05}
    results = specs.judged(
        [variant("fp32", FP32), variant("distilled", metrics), variant("int8-static", metrics)], spec
    )
    logits = [each for each in results if each.gate == "relativeLogitError" and each.variant != "fp32"]
    assert [each.variant for each in logits] == judged
    (own,) = (each for each in results if each.gate == "klDivergence" and each.variant == "distilled")
    assert (own.limit, own.passed) == (divergence, True)
    assert all(each.passed for each in results if each.variant == "distilled" and each.gate != "relativeLogitError")


def test_tags_that_were_learned_anew_are_judged_by_their_headline():
    document = TABLE.format(gates="").replace("species, type: string", "species, type: bool, shape: [2]")
    pipeline = load_pipeline(document.replace("gates: {}", LEARNED % ""))
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    (limit,) = (each for each in specs.limits(spec) if each.gate.name == "worse/mean_pr_auc")
    assert (limit.value, limit.alone) == (0.01, frozenset({"distilled"}))
