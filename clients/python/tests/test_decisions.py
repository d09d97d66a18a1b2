"""Decisions to train and evaluations on new rows, as the command line and the page of a version show them."""

from typing import Any

from headrace.events.v1.evaluation_pb2 import Bounded, Drift, ModelEvaluated, Scored, TrainingDecided
from headrace.events.v1.run_pb2 import RUN_KIND_EVALUATION, RUN_KIND_TRAINING
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client.cli import decisions
from headrace_client.cli.watch import blocks
from headrace_client.decision_views import decision_view, evaluated_view
from headrace_client.report.by_cut import by_cut_cards, most_moved
from headrace_client.stages import Goal, Mark, Wanted, failure, reached, stages
from rich.console import Console

WHY = "not trained because accuracy is 0.96 on the new rows"
WANTED = Wanted("sha256:spec")


def _evaluated(number: int, moved: float) -> messages.Evaluated:
    accuracy = Bounded(name="accuracy", value=0.9 + number / 100, low=0.88, high=0.98)
    return messages.Evaluated(
        evaluated=ModelEvaluated(
            run_id="evaluate-1",
            pipeline="digits",
            version_id="sha256:" + "1" * 64,
            segment_id="sha256:" + "2" * 64,
            task="classification",
            before=Scored(rows=100, measures=[accuracy]),
            now=Scored(rows=300, measures=[accuracy]),
            inputs=[Drift(field="pixels", measure="psi", value=moved, chance=0.03, bound=0.09)],
            answers=Drift(measure="psi", value=0.02, chance=0.03, bound=0.09),
        ),
        ordinal=1,
        measure="accuracy",
    )


def _decided(*, trained: bool) -> TrainingDecided:
    return TrainingDecided(
        pipeline="digits",
        dataset_id="sha256:" + "3" * 64,
        trained=trained,
        reason=WHY,
        cause="quiet",
        now=Bounded(name="accuracy", value=0.96),
    )


def _state(**parts: Any) -> messages.WatchPipelineResponse:
    state = messages.WatchPipelineResponse(**parts)
    state.dataset.frozen.spec_digest = WANTED.spec_digest
    state.dataset.frozen.dataset_id = "sha256:" + "3" * 64
    return state


def _marks(state: messages.WatchPipelineResponse, goal: Goal) -> dict[str, Mark]:
    return {stage.name: stage.mark for stage in stages(state, goal, WANTED)}


def test_waiting_ends_when_a_dataset_is_not_trained_on() -> None:
    state = _state(decision=_decided(trained=False))
    found = stages(state, Goal.RELEASED, WANTED)
    assert reached(found)
    assert not failure(found)
    assert [(stage.name, stage.mark) for stage in found[2:]] == [
        ("decision", Mark.DONE),
        ("training", Mark.SKIPPED),
        ("compression", Mark.SKIPPED),
        ("release", Mark.SKIPPED),
    ]
    assert found[2].text == WHY


def test_waiting_goes_on_while_nobody_has_decided_and_where_it_is_trained_on() -> None:
    running = messages.Run(kind=RUN_KIND_EVALUATION, state=messages.RUN_STATE_RUNNING)
    marks = _marks(_state(runs=[running]), Goal.TRAINED)
    assert (marks["decision"], marks["training"]) == (Mark.RUNNING, Mark.WAITING)
    assert _marks(_state(decision=_decided(trained=True)), Goal.TRAINED)["training"] is Mark.WAITING
    training = messages.Run(kind=RUN_KIND_TRAINING, state=messages.RUN_STATE_RUNNING)
    marks = _marks(_state(runs=[running, training]), Goal.TRAINED)
    assert "decision" not in marks, "where each dataset is trained on, the evaluation runs beside it"
    assert marks["training"] is Mark.RUNNING


def test_tables_and_the_page_tell_of_each_cut() -> None:
    evaluations = [evaluated_view(_evaluated(number, number / 10)) for number in range(4)]
    decided = [decision_view(messages.Decided(decided=_decided(trained=trained))) for trained in (True, False)]
    console = Console(width=250)
    with console.capture() as captured:
        for part in (*decisions.decisions(decided), *decisions.evaluations(evaluations)):
            console.print(part)
    text = captured.get()
    assert "not trained" in text
    assert WHY in text
    assert "pixels 0.3" in text
    assert "the answers 0.02, chance" in text
    page = str(by_cut_cards(evaluations, decided))
    assert WHY in page
    assert page.count("<svg") == 2
    assert most_moved(evaluations, 1) == ["pixels"]


def test_values_are_drawn_as_blocks() -> None:
    assert blocks([0.0, None, 0.5, 1.0]) == "▁ ▅█"
    assert blocks([0.0, 0.4], low=0.0, high=0.2) == "▁█"
    assert blocks([0.7]) == "▁"
