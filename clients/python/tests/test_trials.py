"""What is shown of a search: by `get versions` and `lineage`, as JSON and as tables."""

import json

import pytest
from headrace.events.v1.model_pb2 import Trial
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client.trials import settings_text, trial_rows

STATES = [("done", 0.5), ("pruned", 0.9), ("done", 0.25), ("failed", 0.0)]


@pytest.fixture
def searched(canned):
    version = canned.version(messages.VERSION_STATE_RELEASED)
    for number, (state, score) in enumerate(STATES):
        values = {"optimizer.learningRate": json.dumps(0.01 / (number + 3)), "network.hidden": "[64, 32]"}
        reason = "training diverged in epoch 1" if state == "failed" else ""
        epochs = 0 if state == "failed" else 3
        version.trained.trials.append(
            Trial(
                number=number, values=values, state=state, epochs=epochs, score=score, reason=reason, chosen=number == 2
            )
        )
    return version


def test_a_search_as_json(headrace, registry, searched):
    registry.versions = [searched]
    (view,) = json.loads(headrace("get", "versions", "digits", "--json").stdout)
    assert view["trials"][2] == {
        "number": 2,
        "values": {"network.hidden": [64, 32], "optimizer.learningRate": 0.002},
        "state": "done",
        "epochs": 3,
        "validation_loss": 0.25,
        "reason": None,
        "chosen": True,
    }
    assert view["trials"][3]["validation_loss"] is None


def test_a_search_as_tables(headrace, registry, searched):
    registry.versions = [searched]
    told = " ".join(headrace("get", "versions", "digits").stdout.split())
    assert "version 1 of digits is trial 3 of 4: hidden [64, 32], learningRate 0.002" in told
    registry.lineage = messages.GetLineageResponse(version=searched)
    shown = headrace("lineage", "eeee").stdout
    assert "chosen" in shown
    assert "failed" in shown
    assert "0.25" in shown


def test_of_many_trials_the_best_are_shown_in_the_order_in_which_they_were_tried():
    trials = [
        {"number": place, "values": {"epochs": place}, "state": "done", "epochs": 1, "validation_loss": 1 / (place + 1)}
        | {"reason": None, "chosen": place == 9}
        for place in range(10)
    ]
    assert [row[0] for row in trial_rows(trials, 3)] == ["8", "9", "10"]


def test_settings_of_one_name_are_told_by_their_paths():
    trial = {"values": {"network.learningRate": 0.1, "optimizer.learningRate": 0.2}}
    assert settings_text(trial) == "network.learningRate 0.1, optimizer.learningRate 0.2"
