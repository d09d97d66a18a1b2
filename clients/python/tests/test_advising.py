"""Advice: every setting has a reason and makes a section that loads, and the command tells all of it."""

import json
from dataclasses import replace

import pytest
from headrace_client.advising import Known, advise, section
from headrace_data.spec import Train

ROWS = (3, 150, 1_000, 30_000, 2_000_000)


def _train(known: Known) -> Train:
    return Train.model_validate_json(json.dumps(section(advise(known))))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    "more",
    [
        {"task": "regression"},
        {"task": "classification", "classes": 2, "imbalance": 50.0},
        {"task": "classification", "classes": 10, "image": (28, 28)},
        {"task": "regression", "texts": 2, "budget_s": 20.0},
        {"task": "regression", "texts": 2, "latency_ms": 0.01},
        {"task": "regression", "family": "trees"},
    ],
    ids=lambda more: "+".join(more),
)
def test_advice_makes_a_section_that_loads_and_gives_each_reason(rows, more):
    advised = advise(Known(rows=rows, inputs=30, **more))
    assert all(each.reason for each in advised)
    assert len({each.path for each in advised}) == len(advised)
    train = _train(Known(rows=rows, inputs=30, **more))
    assert train.network.kind == advised[0].value
    if train.network.kind != "trees":
        assert 32 <= train.batch_size <= 512


def test_the_family_follows_from_the_rows_and_what_is_wanted():
    def family(**more):
        return advise(replace(Known(5_000, 20, "regression"), **more))[0].value

    assert family() == "mlp"
    assert family(texts=1) == "trees"
    assert family(texts=1, latency_ms=0.01) == "mlp"
    assert family(rows=100_000) == "trees"
    assert family(image=(8, 8)) == "cnn"
    assert family(texts=1, family="mlp") == "mlp"


def test_more_rows_ask_for_more_layers_fewer_epochs_and_larger_batches():
    few, many = (_train(Known(rows=rows, inputs=20, task="regression", family="mlp")) for rows in (300, 100_000))
    assert sum(few.network.plain()["hidden"]) < sum(many.network.plain()["hidden"])
    assert few.epochs > many.epochs
    assert few.batch_size < many.batch_size


def test_the_fewer_steps_there_are_the_larger_they_are():
    few, many = (_train(Known(rows=rows, inputs=4, task="classification", classes=3)) for rows in (150, 5_000))
    assert few.epochs == many.epochs == 60
    assert few.optimizer.learning_rate > many.optimizer.learning_rate


def test_a_budget_ends_the_schedule_in_time():
    free, short = (
        _train(Known(rows=1_000_000, inputs=20, task="regression", family="mlp", budget_s=budget))
        for budget in (None, 5)
    )
    assert short.epochs < free.epochs
    assert short.budget is not None
    assert short.budget.cpu == 5


def test_rare_classes_are_weighted():
    assert _train(Known(500, 3, "classification", classes=2, imbalance=9)).class_weights == "balanced"
    assert _train(Known(500, 3, "classification", classes=2, imbalance=2)).class_weights == "none"


@pytest.fixture
def sampled(monkeypatch):
    records = [
        json.dumps({"id": f"r{n}", "x": n, "s": "ab"[n % 2], "few": n % 4, "kind": "yn"[n % 3 == 0]}).encode()
        for n in range(90)
    ]
    monkeypatch.setattr("headrace_client.sampling.newest_records", lambda topic, sample, command: records)
    monkeypatch.setattr("headrace_client.sampling.records_of", lambda topic, command: 40_000)


@pytest.mark.usefixtures("sampled")
def test_the_command_advises_for_a_topic(headrace, registry):
    registry.pipelines = []
    done = headrace("advise", "events", "--label", "kind")
    assert done.exit_code == 0, done.output
    assert "40,000 rows, about 4 inputs, classification of 'kind'" in done.stderr
    assert "network.kind" in done.stdout
    assert "network: {kind: trees" in done.stdout.replace("\n", " ")
    told = json.loads(headrace("advise", "events", "--label", "kind", "--rows", "200", "--json").stdout)
    assert told["known"]["rows"] == 200
    assert told["train"]["network"]["kind"] == "mlp"
    assert headrace("advise", "events", "--budget", "never").exit_code == 2
    refused = headrace("advise", "events", "--label", "kind", "--family", "cnn")
    assert refused.exit_code == 2
    assert "no one feature of the rows is an image" in " ".join(refused.output.replace("│", " ").split())


@pytest.mark.usefixtures("sampled")
def test_the_command_advises_for_the_rows_of_a_pipelines_newest_dataset(headrace, registry, canned):
    applied = canned.pipeline()
    spec = json.loads(applied.spec.json)
    spec["stream"]["schema"] = [{"name": "kind", "type": "string", "role": "label"}]
    applied.spec.json = json.dumps(spec).encode()
    registry.pipelines, registry.datasets = [applied], [canned.dataset()]
    told = json.loads(headrace("advise", "digits", "--json").stdout)
    assert told["known"]["rows"] == 1257 + 270 + 265
    assert told["known"]["task"] == "classification"


@pytest.mark.usefixtures("sampled")
def test_the_command_heeds_what_a_pipeline_answers(headrace, registry, canned):
    applied = canned.pipeline()
    registry.pipelines = [applied]

    def advise_for(task, **label):
        spec = json.loads(applied.spec.json)
        spec["stream"]["schema"] = [{"name": "x", "type": "float32", "role": "label", **label}]
        spec["train"]["task"] = task
        applied.spec.json = json.dumps(spec).encode()
        return headrace("advise", "digits", "--rows", "30000", "--json")

    told = json.loads(advise_for("quantile").stdout)
    assert (told["known"]["task"], told["train"]["network"]["kind"]) == ("regression", "mlp")
    for task in ("regression", "count"):
        told = json.loads(advise_for(task, type="int32", name="few").stdout)
        assert (told["known"]["task"], told["train"]["network"]["kind"]) == ("regression", "trees")
    for refused, what in ((advise_for("ranking"), "a ranking"), (advise_for("multilabel", shape=[2]), "lists")):
        assert refused.exit_code == 2
        said = " ".join(refused.output.replace("│", " ").split())
        assert f"answers classes or single numbers, got 'digits': {what}" in said


def test_the_command_has_no_advice_for_texts_that_an_encoder_reads(headrace, registry, canned):
    applied = canned.pipeline()
    spec = json.loads(applied.spec.json)
    spec["stream"]["schema"] = [{"name": "kind", "type": "string", "role": "label"}]
    spec["train"]["network"] = {"kind": "encoder"}
    applied.spec.json = json.dumps(spec).encode()
    registry.pipelines = [applied]
    refused = headrace("advise", "digits")
    assert refused.exit_code == 2
    said = " ".join(refused.output.replace("│", " ").split())
    assert "expected a pipeline of a table or an image, got 'digits': an encoder" in said
