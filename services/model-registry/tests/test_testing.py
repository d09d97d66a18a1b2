"""Whether a dataset is trained on: decided by what is served, scored on rows that nothing has learned from."""

from dataclasses import replace

import pytest
from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry
from headrace_model_registry.transport.telling import tell
from prometheus_client import REGISTRY

TRIGGERS = "{worse: 0.02, drift: 0.2}"


def kinds(decisions):
    return [type(each) for each in decisions]


class Served:
    """A pipeline whose first version is served; its later datasets are decided on."""

    def __init__(self, world, ledger, when=TRIGGERS):
        self.world, self.ledger = world, ledger
        self.applied = world.applied(when=when)
        ledger.learn(self.applied)
        self.first = ledger.learn(world.cut(self.applied, 1))
        self.release(self.first[-1] if when != "always" else self.first[0])

    def release(self, training):
        """Train and release a version, and return what followed from the release."""
        (compression,) = self.ledger.learn(self.world.trained(training))
        return self.ledger.learn(self.world.compressed(compression))

    def cut(self, number):
        """Cut a dataset and return what followed from it."""
        return self.ledger.learn(self.world.cut(self.applied, number))

    def decide(self, number, **figures):
        """Cut a dataset, evaluate what is served on it, and return what followed."""
        (request,) = self.cut(number)
        return self.ledger.learn(self.world.evaluated(request, **figures))


@pytest.fixture
def served(world, ledger):
    return Served(world, ledger)


def test_the_first_dataset_is_trained_on_and_the_log_says_why(served):
    decided, training = served.first
    assert (decided.trained, decided.cause) == (True, "first")
    assert decided.reason == "trained because no version is served yet"
    assert isinstance(training, facts.TrainingRequested)


def test_a_quiet_stream_trains_nothing_after_its_first_version(served):
    for number in range(2, 22):
        (decided,) = served.decide(number, now=0.96)
        assert (decided.trained, decided.cause) == (False, "quiet")
    assert decided.rows == 20 * 300
    assert decided.age_s > 0
    assert decided.reason.startswith(
        "not trained because accuracy is 0.9600 on the new rows (0.9400 to 0.9800), and was 0.9700 (0.9500 to 0.9900)"
    )
    assert "pixels moved by 0.02 (psi), where chance gives 0.09 at most" in decided.reason
    assert len(served.ledger.catalogue.versions) == 1


@pytest.mark.parametrize(
    ("figures", "cause"),
    [
        ({"now": 0.80}, "worse"),
        ({"drift": 0.31}, "drift"),
        ({"now": 0.80, "drift": 0.31}, "worse"),
    ],
)
def test_what_is_no_chance_and_matters_is_trained_on(served, figures, cause):
    decided, training = served.decide(2, **figures)
    assert (decided.trained, decided.cause) == (True, cause)
    assert training.dataset.dataset_id == decided.dataset_id
    assert (decided.now.value, decided.drift.field) == (figures.get("now", 0.97), "pixels")
    assert decided.run_id in served.ledger.catalogue.runs


@pytest.mark.parametrize("figures", [{"now": 0.93}, {"drift": 0.08}, {"drift": 0.22}])
def test_what_may_be_chance_is_not_trained_on(served, figures):
    (decided,) = served.decide(2, **figures)
    assert not decided.trained


@pytest.mark.parametrize(("when", "cause"), [("{rows: 500}", "rows"), ("{age: 4s}", "age")])
def test_age_and_new_rows_are_counted_from_the_dataset_of_the_version_served(world, ledger, when, cause):
    served = Served(world, ledger, when)
    outcomes = [served.decide(2), served.decide(3)]
    decided = next(each[0] for each in outcomes if each[0].trained)
    assert decided.cause == cause


def test_always_trains_at_once_and_asks_beside_it(world, ledger):
    served = Served(world, ledger, "always")
    training, request = served.cut(2)
    assert kinds([training, request]) == [facts.TrainingRequested, facts.EvaluationRequested]
    assert ledger.learn(world.evaluated(request, now=0.5)) == []
    assert ledger.catalogue.tested.ended[request.run_id].evaluated.now.of("accuracy").value == 0.5
    assert ledger.catalogue.tested.decided == []


def test_an_evaluation_that_fails_trains_and_says_so(served):
    (request,) = served.cut(2)
    decided, training = served.ledger.learn(served.world.failed(request, "its rows are gone"))
    assert (decided.trained, decided.cause, decided.run_id) == (True, "failed", request.run_id)
    assert decided.reason.endswith("could not be scored on the new rows: its rows are gone")
    assert isinstance(training, facts.TrainingRequested)


def test_a_result_that_comes_twice_or_for_nothing_is_passed_over(served):
    (request,) = served.cut(2)
    evaluated = served.world.evaluated(request)
    served.ledger.learn(evaluated)
    assert served.ledger.learn(evaluated) == Objection(f"run {request.run_id} has ended", repeated=True)
    assert isinstance(served.ledger.learn(replace(evaluated, run_id="evaluate-x")), Objection)


def test_a_changed_spec_trains_and_says_so_and_another_limit_trains_nothing(served):
    world, ledger = served.world, served.ledger
    served.decide(2)
    assert ledger.learn(world.applied(when="{worse: 0.05}")) == []
    served.applied = world.applied(when="{worse: 0.05}", hidden=64)
    decided, training = ledger.learn(served.applied)
    assert (decided.cause, decided.trained) == ("changed", True)
    assert isinstance(training, facts.TrainingRequested)
    served.release(training)
    (quiet,) = served.decide(3)
    assert quiet.cause == "quiet"


def test_a_spec_that_is_taken_back_while_its_candidate_is_under_way_is_followed_by_the_one_before(served):
    world, ledger = served.world, served.ledger
    served.decide(2)
    _, training = ledger.learn(world.applied(when=TRIGGERS, hidden=64))
    decided, held = ledger.learn(served.applied)
    assert (decided.cause, decided.reason) == ("changed", "trained because what is trained now is of another spec")
    assert isinstance(held, facts.TrainingHeld)
    assert ledger.learn(world.applied(when="{worse: 0.05, drift: 0.2}")) == [], "that one waits"
    released, again = served.release(training)
    assert isinstance(released, facts.ModelReleased)
    assert again.run_id == held.run_id


def test_what_was_not_trained_on_is_trained_on_once_each_dataset_is(served):
    served.decide(2)
    (training,) = served.ledger.learn(served.world.applied())
    assert training.dataset.dataset_id == served.world.cut(served.applied, 2).dataset_id


def test_what_comes_while_a_candidate_is_under_way_is_decided_by_what_is_served_afterwards(served):
    world, ledger = served.world, served.ledger
    _, training = served.decide(2, now=0.5)
    (earlier,) = served.cut(3)
    assert ledger.learn(world.evaluated(earlier, now=0.5)) == [], "the candidate has seen such rows"
    released, request = served.release(training)
    assert isinstance(released, facts.ModelReleased)
    assert request.version.version_id == released.version_id
    (decided,) = ledger.learn(world.evaluated(request))
    assert (decided.trained, decided.ordinal) == (False, 2)


def test_a_dataset_that_no_cut_led_to_is_trained_on(served):
    decided, training = served.ledger.learn(served.world.frozen(served.applied, 2))
    assert (decided.cause, decided.trained) == ("unseen", True)
    assert isinstance(training, facts.TrainingRequested)


def test_a_newer_cut_takes_the_place_of_one_that_is_undecided(served):
    world, ledger = served.world, served.ledger
    (second,) = served.cut(2)
    (third,) = served.cut(3)
    assert ledger.learn(world.evaluated(second, now=0.5)) == []
    decided, training = ledger.learn(world.evaluated(third, now=0.5))
    assert decided.dataset_id == training.dataset.dataset_id == world.cut(served.applied, 3).dataset_id


def test_the_log_gives_the_same_catalogue_and_a_deleted_pipeline_takes_it_along(served, new_ledger):
    served.decide(2)
    again = new_ledger()
    for entry in served.ledger.log:
        again.catalogue.fold(entry)
    assert again.catalogue == served.ledger.catalogue
    served.ledger.learn(facts.PipelineDeleted("digits", 0))
    assert served.ledger.catalogue.tested.decided == []
    (gone,) = served.ledger.catalogue.departed.values()
    assert len(gone.tested.decided) == 2


def test_callers_metrics_and_the_log_tell_of_evaluations_and_decisions(served):
    decided, _ = served.decide(2, now=0.5, drift=0.31)
    catalogue = served.ledger.catalogue
    (evaluated,) = queries.evaluations(catalogue, "digits")
    assert (evaluated.ordinal, evaluated.measure) == (1, "accuracy")
    assert [each.decided for each in queries.decisions(catalogue, "digits")] == [served.first[0], decided]
    status = queries.status(catalogue, queries.ProgressBoard(), "digits")
    assert status.decision == decided
    assert [run.kind for run in status.runs] == [facts.RunKind.EVALUATION, facts.RunKind.TRAINING]
    assert [from_log_entry(to_log_entry(entry)) for entry in served.ledger.log] == served.ledger.log
    tell(served.ledger.log)
    read = REGISTRY.get_sample_value
    assert read("headrace_live_quality", {"pipeline": "digits", "measure": "accuracy"}) == 0.5
    assert read("headrace_live_quality_changed", {"pipeline": "digits", "measure": "accuracy"}) == pytest.approx(-0.47)
    assert read("headrace_drift", {"pipeline": "digits", "field": "pixels"}) == pytest.approx(0.28)
    causes = {"pipeline": "digits", "cause": "worse", "trained": "true"}
    assert read("headrace_training_decisions_total", causes) == 1
