"""What follows from each fact, and which facts are passed over."""

from dataclasses import replace
from typing import Any

import pytest
from headrace_model_registry.core import facts
from headrace_model_registry.core.facts.classes import ClassVariants, GateResult, ServedVariant
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.policy import decide
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.wishes import PartitionsAdded


def test_applying_a_pipeline_decides_nothing(story, world, ledger):
    assert ledger.catalogue.pipelines == {"digits": story.applied}
    assert ledger.learn(world.applied()) == Objection("pipeline digits has this spec already", repeated=True)


def test_a_frozen_dataset_is_trained_on(story, world):
    frozen = world.frozen(story.applied)
    request = story.train()
    assert request.run_id.startswith("train-")
    assert len(request.run_id) == len("train-") + 32
    assert request == facts.TrainingRequested(
        request.run_id, "digits", facts.DatasetReference(frozen.dataset_id, frozen.manifest), story.applied.spec
    )


def test_a_run_id_names_dataset_schema_training_and_seed_and_nothing_else(story, world, ledger):
    again = world.frozen(story.applied)
    run_ids = []
    tried: list[dict[str, Any]]
    tried = [{}, {"cache": "off"}, {"agreement": 0.9}, {"seed": 8}, {"hidden": 64}, {"highest": 15}]
    for number, changes in enumerate(tried):
        changed = story.changed(**changes) if changes else story
        same_rows = replace(again, spec_digest=changed.applied.spec.digest, request_id=str(number))
        decided = (*changed.decided, *ledger.learn(same_rows))
        run_ids.append([decision.run_id for decision in decided])
        for request in decided:
            ledger.learn(world.failed(request))
    assert [len(each) for each in run_ids] == [1, 0, 0, 1, 1, 1]
    assert len({run_id for each in run_ids for run_id in each}) == 4


def test_a_dataset_that_is_frozen_again_is_recorded_and_not_trained_on_again(story, world, ledger):
    story.train()
    again = world.frozen(story.applied, request_id="r2")
    assert ledger.learn(again) == []
    assert ledger.catalogue.datasets[again.pipeline, again.dataset_id].frozen == again
    assert "r2" in ledger.catalogue.ended_requests


def test_two_pipelines_over_the_same_rows_both_get_a_model(story, world, ledger):
    other = world.applied(name="other")
    ledger.learn(other)
    rows = world.frozen(story.applied)
    same_rows = replace(rows, pipeline="other", spec_digest=other.spec.digest)
    assert ledger.decide(rows).run_id != ledger.decide(same_rows).run_id


def test_a_trained_version_is_compressed_and_measured(story, world, ledger):
    training = story.train()
    trained = world.trained(training)
    request = ledger.decide(trained)
    assert request.run_id.startswith("compress-")
    assert request == facts.CompressionRequested(
        run_id=request.run_id,
        pipeline="digits",
        candidate=facts.VersionReference(trained.version_id, trained.graph, training.dataset, trained.weights),
        champion=None,
        spec=story.applied.spec,
    )


def test_the_first_version_is_released_when_its_gates_pass(story, world, ledger):
    request = story.compress()
    fact = world.compressed(request)
    released = ledger.decide(fact)
    trained = ledger.catalogue.versions["digits", fact.version_id].trained
    assert released == facts.ModelReleased(
        model="digits",
        alias="champion",
        epoch=1,
        version_id=fact.version_id,
        ordinal=1,
        variant="int8",
        graph=fact.variants[1].graph,
        pipeline="digits",
        dataset_id=trained.dataset_id,
        run_id=trained.run_id,
        gates=released.gates,
        cache=facts.CachePolicy.REDIS,
        cache_ttl_s=3600,
        classes=(ClassVariants("avx2", (ServedVariant("int8", fact.variants[1].graph),)),),
        unmeasured=ServedVariant("fp32", trained.graph),
    )
    assert len(released.gates) == 16
    assert all(gate.passed for gate in released.gates)


@pytest.mark.parametrize(("cache", "policy"), [("auto", facts.CachePolicy.AUTO), ("off", facts.CachePolicy.OFF)])
def test_a_release_carries_the_cache_policy_of_the_spec(story, cache, policy):
    assert story.changed(cache=cache).release().cache is policy


@pytest.mark.parametrize(("cache_ttl", "seconds"), [("5m", 300), ("1500ms", 2), ("1ms", 1)])
def test_a_release_carries_how_long_predictions_stay_hot(story, cache_ttl, seconds):
    assert story.changed(cache_ttl=cache_ttl).release().cache_ttl_s == seconds


def test_a_variant_that_does_not_apply_refuses_nothing_and_is_told_with_the_reason(story, world, ledger):
    measured = world.compressed(story.compress())
    (fp32,) = (each for each in measured.variants if each.name == "fp32")
    why = "int8-dynamic: expected at least one matrix product, got trees"
    fact = replace(measured, variants=(fp32,), not_applicable=(facts.NotApplicable("int8", why),))

    released = ledger.decide(fact)

    assert released.variant == "fp32"
    (told,) = (gate for gate in released.gates if gate.variant == "int8")
    assert told == GateResult("int8", "applicable", False, 1.0, 0.0, why)


def test_a_variant_that_fails_a_gate_is_not_released_and_fp32_is(story, world, ledger):
    released = ledger.decide(world.compressed(story.compress(), int8={"agreement": 0.97}))
    assert released.variant == "fp32"
    assert [gate.gate for gate in released.gates if not gate.passed] == ["agreement"]


def test_the_limits_are_the_spec_s(story):
    strict = story.changed(agreement=0.995)
    assert strict.release().variant == "fp32"


def test_a_version_without_a_passing_variant_is_refused(story, world, ledger):
    fact = world.compressed(story.compress(), int8={"agreement": 0.5})
    refused = ledger.decide(replace(fact, variants=fact.variants[1:]))
    assert isinstance(refused, facts.ModelRefused)
    assert "no variant passed its gates" in refused.reason
    assert "int8 agreement 0.5, limit 0.98" in refused.reason
    assert refused.gates


def test_a_version_without_variants_is_refused(story, world, ledger):
    refused = ledger.decide(replace(world.compressed(story.compress()), variants=()))
    assert refused.reason == "no variant passed its gates: nothing was measured"


def test_the_next_version_is_measured_beside_the_champion(story, ledger):
    released = story.release(1)
    request = story.compress(2)
    champion = ledger.catalogue.champion("digits")
    assert request.champion == facts.VersionReference(
        released.version_id,
        champion.trained.graph,
        facts.DatasetReference(
            released.dataset_id, ledger.catalogue.datasets["digits", released.dataset_id].frozen.manifest
        ),
        champion.trained.weights,
    )


@pytest.mark.parametrize("right", [140, 141])
def test_a_candidate_that_is_not_worse_is_released_with_the_next_epoch(story, right):
    first = story.release(1)
    second = story.release(2, right=right, champion_right=140)
    assert isinstance(second, facts.ModelReleased)
    assert (second.epoch, second.ordinal) == (first.epoch + 1, 2)


def test_a_candidate_that_is_worse_is_refused_with_figures_rows_and_datasets(story, world, ledger):
    released = story.release(1)
    request = story.compress(2)
    fact = world.compressed(request, right=139, champion_right=140)
    refused = ledger.decide(fact)
    assert refused == facts.ModelRefused("digits", fact.version_id, "digits", refused.reason, refused.gates)
    assert refused.reason == (
        "worse than the champion on the same rows: 278 of 300 right (accuracy 0.9267), "
        "version 1 280 of 300 right (accuracy 0.9333); test splits of "
        f"{request.candidate.dataset.dataset_id} (150 rows), {released.dataset_id} (150 rows)"
    )
    assert ledger.catalogue.champion("digits").trained.version_id == released.version_id


def test_a_candidate_that_was_not_compared_is_refused(story, world, ledger):
    story.release(1)
    refused = ledger.decide(replace(world.compressed(story.compress(2)), evaluations=()))
    assert "cannot be compared with the champion, version 1: the accuracy of version" in refused.reason


def measured(story, number):
    """Return the compression request of a version of the shared model."""
    return story.ledger.decide(story.world.trained(story.train(number), model="digits"))


def test_a_candidate_is_measured_again_when_the_champion_changed_meanwhile(rivals, world, ledger):
    first, second = (measured(each, number) for number, each in enumerate(rivals[:2]))
    released = ledger.decide(world.compressed(first))
    assert released.epoch == 1
    again = ledger.decide(world.compressed(second))
    assert isinstance(again, facts.CompressionRequested)
    assert again.run_id != second.run_id
    assert again.champion.version_id == released.version_id
    assert ledger.decide(world.compressed(again)).epoch == 2


def test_a_candidate_whose_champion_comes_and_goes_is_refused_instead_of_measured_for_ever(rivals, world, ledger):
    first, second, third = (measured(each, number) for number, each in enumerate(rivals))
    one = ledger.decide(world.compressed(first))
    beside_one = ledger.decide(world.compressed(third))
    ledger.decide(world.compressed(ledger.decide(world.compressed(second))))
    beside_two = ledger.decide(world.compressed(beside_one))
    # Somebody moves the alias back to the first version.
    ledger.write(replace(one, epoch=3))
    refused = ledger.decide(world.compressed(beside_two))
    assert isinstance(refused, facts.ModelRefused)
    assert "changed again and again" in refused.reason


@pytest.mark.parametrize(("right", "kind"), [(140, facts.ModelRefused), (141, facts.ModelReleased)])
def test_as_good_as_a_champion_of_newer_data_is_not_good_enough(rivals, world, ledger, right, kind):
    older, newer = (measured(each, number) for number, each in enumerate(rivals[:2]))
    ledger.decide(world.compressed(newer))
    decided = ledger.decide(world.compressed(ledger.decide(world.compressed(older)), right=right))
    assert isinstance(decided, kind)
    assert kind is facts.ModelReleased or "as good as the champion, which learned from newer data" in decided.reason


def test_a_model_for_other_rows_is_no_champion_to_compare_with(story, world, ledger):
    first = story.release(1)
    wider = story.changed(width=100)
    request = wider.compress(2)
    assert request.champion is None
    second = ledger.decide(world.compressed(request))
    assert (second.epoch, second.ordinal) == (first.epoch + 1, 2)


def test_another_range_of_the_same_fields_is_still_compared(story):
    released = story.release(1)
    assert story.changed(highest=15).compress(2).champion.version_id == released.version_id


@pytest.mark.parametrize("changes", [{"seed": 8}, {"hidden": 64}, {"seed": 8, "cache": "off", "agreement": 0.9}])
def test_a_mended_spec_is_tried_on_the_newest_dataset_after_a_failed_run(story, world, ledger, changes):
    story.fail(1)
    failed = story.fail(2)
    mended = story.changed(**changes)
    (training,) = mended.decided
    assert training == facts.TrainingRequested(training.run_id, "digits", failed.dataset, mended.applied.spec)
    assert training.run_id != failed.run_id
    assert isinstance(ledger.decide(world.compressed(ledger.decide(world.trained(training)))), facts.ModelReleased)


@pytest.mark.parametrize(
    "changes", [{"width": 100}, {"highest": 15}, {"salt": "other"}, {"missing": "keep"}, {"topic": "elsewhere"}]
)
def test_a_spec_that_prepares_other_rows_waits_for_its_own_dataset(story, world, ledger, changes):
    ledger.learn(world.failed(story.train()))
    assert story.changed(seed=8, **changes).decided == ()


def test_the_same_training_is_not_asked_for_twice(story, world, ledger):
    ledger.learn(world.failed(story.train()))
    assert story.changed(cache="off").decided == ()
    assert len(story.changed(seed=8).decided) == 1
    assert story.changed().decided == ()
    assert story.changed(seed=8, agreement=0.9).decided == ()


def test_a_dataset_of_an_old_schema_is_trained_by_the_spec_it_was_prepared_with(story, world, ledger):
    frozen = world.frozen(story.applied)
    story.changed(width=100)
    training = ledger.decide(frozen)
    assert training.spec == story.applied.spec
    assert ledger.decide(world.trained(training)).spec == story.applied.spec


def test_otherwise_the_spec_in_force_is_used(story, world, ledger):
    frozen = world.frozen(story.applied)
    newer = story.changed(seed=9)
    assert ledger.decide(frozen).spec == newer.applied.spec


def test_pipelines_may_feed_one_model(story, world, ledger):
    released = story.release(1)
    other = world.applied(name="other")
    ledger.learn(other)
    training = ledger.decide(world.frozen(other))
    request = ledger.decide(world.trained(training, model="digits"))
    assert request.champion.version_id == released.version_id
    second = ledger.decide(world.compressed(request))
    assert (second.model, second.epoch, second.ordinal, second.pipeline) == ("digits", 2, 2, "other")


def test_a_failed_run_is_recorded_and_nothing_follows(story, world, ledger):
    training = story.train()
    assert ledger.learn(world.failed(training, "out of memory")) == []
    run = ledger.catalogue.runs[training.run_id]
    assert (run.state, run.reason) == (RunState.FAILED, "out of memory")


def test_a_version_whose_compression_failed_waits_for_nothing(story, world, ledger):
    request = story.compress()
    assert ledger.learn(world.failed(request, "no such operator")) == []
    version = ledger.catalogue.versions["digits", request.candidate.version_id]
    assert (version.state, version.reason) == (VersionState.REFUSED, "compression: no such operator")


def test_a_failed_freeze_is_recorded_and_nothing_follows(story, ledger):
    failure = facts.DatasetFailed("digits", "no rows", "r1")
    assert ledger.learn(failure) == []
    assert ledger.catalogue.failures == {"digits": failure}
    assert ledger.learn(failure).repeated


def test_a_request_for_a_dataset_is_recorded_once_answered_never_again(story, world, ledger):
    request = facts.DatasetRequested("digits", "r1")
    assert ledger.learn(request) == []
    ledger.learn(world.frozen(story.applied, request_id="r1"))
    assert ledger.learn(request).repeated


def test_facts_of_unknown_pipelines_are_passed_over(world, ledger):
    applied = world.applied()
    for fact in (
        world.frozen(applied),
        facts.DatasetFailed("digits", "no rows"),
        facts.DatasetRequested("digits", "r1"),
    ):
        assert ledger.learn(fact) == Objection("pipeline digits was never applied")
    assert ledger.log == []


def test_a_dataset_of_a_spec_that_was_never_applied_is_passed_over(story, world, ledger):
    objection = ledger.learn(world.frozen(world.applied(seed=99)))
    assert "which was never applied" in objection.reason
    assert not objection.repeated


def test_ends_of_unknown_runs_are_passed_over(story, world, ledger):
    elsewhere = type(ledger)()
    elsewhere.learn(story.applied)
    training = elsewhere.decide(world.frozen(story.applied))
    request = elsewhere.decide(world.trained(training))
    for fact in (world.trained(training), world.compressed(request), world.failed(training)):
        assert "never asked for" in ledger.learn(fact).reason
        assert decide(fact, ledger.catalogue) == []


def test_an_end_that_does_not_fit_its_run_is_passed_over(story, world, ledger):
    training = story.train()
    for fact in (
        replace(world.trained(training), dataset_id="sha256:other"),
        replace(world.trained(training), pipeline="other"),
        replace(world.failed(training), kind=facts.RunKind.COMPRESSION),
        replace(world.failed(training), pipeline="other"),
    ):
        objection = ledger.learn(fact)
        assert f"run {training.run_id} was asked for as training of {training.dataset.dataset_id}" in objection.reason
        assert not objection.repeated


def test_a_run_ends_once(story, world, ledger):
    training = story.train()
    trained = world.trained(training)
    request = ledger.decide(trained)
    compressed = world.compressed(request)
    ledger.decide(compressed)
    for fact in (trained, world.failed(training), compressed, world.failed(request)):
        assert ledger.learn(fact) == Objection(f"run {fact.run_id} has ended", repeated=True)


def test_the_same_version_from_two_runs_keeps_its_place(story, world, ledger):
    training = story.train(1)
    trained = world.trained(training)
    ledger.decide(world.compressed(ledger.decide(trained)))
    second = story.changed(seed=8)
    (request,) = second.decided
    ledger.learn(replace(trained, run_id=request.run_id))
    assert [version.ordinal for version in ledger.catalogue.versions.values()] == [1]


def test_more_partitions_apply_the_spec_in_force_once_more(story, world, ledger):
    before = ledger.catalogue.pipelines["digits"]
    changed = story.changed(seed=8).applied
    (grown,) = ledger.grant(PartitionsAdded("digits", before.partitions + 2))
    # A spec that was applied meanwhile stays in force.
    assert grown == replace(changed, partitions=before.partitions + 2)
    assert ledger.catalogue.pipelines["digits"] == grown
    assert ledger.grant(PartitionsAdded("digits", before.partitions)).repeated
    assert "was never applied" in ledger.grant(PartitionsAdded("letters", 9)).reason
