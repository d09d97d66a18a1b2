"""`get`: its tables at 80 columns and its JSON shapes, which scripts rely on."""

from __future__ import annotations

import json
import time
from io import StringIO

import pytest
from headrace.events.v1.model_pb2 import ModelTrained, PrivacySpent
from headrace.events.v1.run_pb2 import RunProgressed
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client.cli import tables
from headrace_client.costs import cost_text
from headrace_client.views import View, version_view
from rich.console import Console


def artifact(canned, letter):
    return {"uri": f"file:///store/{letter}", "digest": canned.digest(letter), "size_bytes": 51_200}


def gates():
    return [
        {"variant": "int8", "gate": "accuracyDrop", "passed": True, "limit": 0.01, "measured": 0.0},
        {"variant": "int8", "gate": "agreement", "passed": False, "limit": 0.998, "measured": 0.9962},
    ]


@pytest.fixture
def full(registry, canned):
    registry.datasets = [canned.dataset(request_id="request-7"), canned.dataset("c")]
    registry.runs = [
        canned.training(messages.RUN_STATE_SUCCEEDED, epoch=31),
        canned.compression(messages.RUN_STATE_RUNNING),
        canned.training(messages.RUN_STATE_FAILED, reason="loss is NaN [epoch 2]"),
    ]
    registry.versions = [
        canned.version(messages.VERSION_STATE_REFUSED, reason="no variant passed its gates"),
        canned.version(messages.VERSION_STATE_RELEASED),
    ]
    registry.releases = [canned.release()]
    return registry


@pytest.fixture
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rows_of(headrace, kind, *version):
    result = headrace("get", kind, "digits", *version, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_pipelines_as_json(headrace, full, canned):
    assert rows_of(headrace, "pipelines") == [
        {
            "pipeline": "digits",
            "model": "digits",
            "topic": "scans",
            "partitions": 3,
            "spec_digest": canned.spec,
            "spec": {"metadata": {"name": "digits"}, "stream": {"topic": "scans"}, "train": {"model": "digits"}},
        }
    ]


def test_datasets_as_json(headrace, full, canned):
    first, second = rows_of(headrace, "datasets")
    assert first == {
        "dataset_id": canned.digest("d"),
        "pipeline": "digits",
        "spec_digest": canned.spec,
        "rows": {"train": 1257, "validation": 270, "test": 265},
        "rejected": {"range": 2, "type": 1},
        "masked": {},
        "unread": {},
        "writer_schemas": [],
        "repeated_keys": 0,
        "late_rows": 0,
        "awaiting_labels": 0,
        "rarest": None,
        "leaks": None,
        "outliers": [],
        "sources": [{"partition": 0, "start": 0, "end": 1800}],
        "manifest": artifact(canned, "a"),
        "request_id": "request-7",
        "freeze_time": "2023-11-14T22:13:20.250Z",
    }
    assert second["request_id"] is None


def test_runs_as_json(headrace, full, canned):
    trained, compressing, failed = rows_of(headrace, "runs")
    assert trained == {
        "run_id": canned.digest("1"),
        "pipeline": "digits",
        "kind": "training",
        "state": "succeeded",
        "subject": canned.digest("d"),
        "reason": None,
        "progress": {
            "attempt": 1,
            "step": 31,
            "steps": 40,
            "metrics": {"train_loss": pytest.approx(0.5 / 31), "validation_loss": pytest.approx(0.6 / 31)},
            "eta_s": 72.0,
        },
        "request_time": "2023-11-14T22:13:20.250Z",
        "end_time": "2023-11-14T22:13:32.000Z",
        "origin": None,
    }
    assert (compressing["kind"], compressing["state"]) == ("compression", "running")
    assert compressing["progress"] is compressing["end_time"] is None
    assert (failed["state"], failed["reason"]) == ("failed", "loss is NaN [epoch 2]")


def test_versions_as_json(headrace, full, canned):
    refused, released = rows_of(headrace, "versions")
    assert (refused["state"], refused["reason"]) == ("refused", "no variant passed its gates")
    variants = released.pop("variants")
    assert [variant["name"] for variant in variants] == ["fp32", "int8"]
    assert variants[0]["graph"] == artifact(canned, "b")
    assert variants[0]["metrics"]["latency_ms_batch_1"] == pytest.approx(0.041)
    assert released == {
        "model": "digits",
        "ordinal": 1,
        "version_id": canned.digest("e"),
        "pipeline": "digits",
        "dataset_id": canned.digest("d"),
        "run_id": canned.digest("1"),
        "state": "released",
        "reason": None,
        "epochs": 31,
        "attempt": 1,
        "cpu_s": pytest.approx(12.345),
        "gpu_s": None,
        "cost": None,
        "currency": None,
        "privacy": None,
        "peak_memory_bytes": 812_000_000,
        "task": "classification",
        "measure": "accuracy",
        "metrics": {"accuracy": 0.9811, "log_loss": 0.07},
        "trials": [],
        "manifest": artifact(canned, "a"),
        "graph": artifact(canned, "b"),
        "weights": artifact(canned, "c"),
        "gates": gates(),
        "evaluations": [],
        "cpu_class": "avx2",
        "frontier": ["fp32"],
        "elsewhere": [],
        "forgotten_keys": 0,
    }


def test_variants_as_json(headrace, full, canned):
    common = {"model": "digits", "ordinal": 1, "version_id": canned.digest("e"), "cpu_class": "avx2"}
    fp32, int8 = rows_of(headrace, "variants")
    assert fp32.pop("metrics")["latency_ms_batch_1"] == pytest.approx(0.041)
    assert fp32 == common | {
        "measure": "accuracy",
        "variant": "fp32",
        "passed": True,
        "on_frontier": True,
        "served": 1,
        "graph": artifact(canned, "b"),
    }
    assert (int8["variant"], int8["passed"], int8["on_frontier"], int8["served"]) == ("int8", False, False, None)
    assert rows_of(headrace, "variants", "1")[0]["variant"] == "fp32"


def test_variants_are_shown_within_eighty_columns(headrace, full):
    lines = headrace("get", "variants").stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert any(line.startswith("fp32 ") and line.rstrip().endswith("served 1") for line in lines)
    assert any(line.startswith("int8 ") and line.rstrip().endswith("failed") for line in lines)


def test_variants_of_a_version_that_there_is_not(headrace, full):
    result = headrace("get", "variants", "digits", "7")
    assert result.exit_code == 2
    assert "expected one of" in result.stderr
    assert headrace("get", "runs", "digits", "7").exit_code == 2


def test_releases_as_json(headrace, full, canned):
    assert rows_of(headrace, "releases") == [
        {
            "model": "digits",
            "alias": "champion",
            "epoch": 1,
            "version_id": canned.digest("e"),
            "ordinal": 1,
            "variant": "fp32",
            "graph": artifact(canned, "b"),
            "pipeline": "digits",
            "dataset_id": canned.digest("d"),
            "run_id": canned.digest("1"),
            "gates": gates(),
            "cache": "redis",
            "cache_ttl_s": None,
            "classes": {},
            "unmeasured": None,
            "degrade": False,
            "upstream": None,
            "reason": None,
            "release_time": "2023-11-14T22:13:20.250Z",
        }
    ]


@pytest.mark.parametrize("kind", ["pipelines", "datasets", "runs", "versions", "releases"])
@pytest.mark.usefixtures("_utc")
def test_tables_fit_eighty_columns(headrace, full, kind):
    result = headrace("get", kind)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    last_column = {"pipelines": "5" * 12, "runs": "11.8 s", "versions": "released"}.get(kind, "11-14 22:13")
    rows = [line for line in lines if line.startswith("digits ")]
    assert rows, "the first column is there"
    assert any(line.rstrip().endswith(last_column) for line in rows), "the last column is there and not cut"


def test_a_pipe_cuts_nothing(headrace, registry, canned, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    registry.releases = [canned.release()]
    registry.releases[0].released.model = "a-model-with-a-name-as-long-as-names-of-teams-make-it"
    assert registry.releases[0].released.model in headrace("get", "releases").stdout


def test_a_reason_with_brackets_is_shown_as_it_is(headrace, full):
    assert "loss is NaN [epoch 2]" in headrace("get", "runs").stdout


def test_versions_show_the_gates_of_the_newest(headrace, full):
    output = headrace("get", "versions").stdout
    assert "variants of digits version 1" in output
    assert "1 failed" in output
    assert "accuracyDrop" in output
    assert "version 1 of digits was refused: no variant passed its gates" in output


def test_a_regression_is_known_by_its_error():
    errors = {"rmse": 312.42, "mae": 250.0, "r2": 0.85}
    common = {"ordinal": 1, "version_id": "sha256:" + "e" * 64, "dataset_id": "d", "state": "released", "reason": None}
    regression = common | {
        "model": "mass",
        "epochs": 3,
        "task": "regression",
        "measure": "rmse",
        "metrics": errors,
        "gates": [],
        "variants": [{"name": "fp32", "metrics": errors}],
    }
    classes = common | {"model": "digits", "epochs": 3, "gates": [], "variants": []}
    classes |= {"task": "classification", "measure": "accuracy", "metrics": {"accuracy": 0.5}}

    alone, mixed = text_of(tables.versions([regression])), text_of(tables.versions([classes, regression]))

    assert "rmse" in alone.splitlines()[0]
    assert "312.4200" in alone
    assert "mae" in alone
    assert "accuracy" not in alone
    assert "quality" in mixed.splitlines()[0]
    assert "accuracy 0.5000" in mixed
    assert "released" in text_of(tables.versions([classes, regression]), width=80)
    assert "rmse 312.4200" in mixed


def test_slices_are_shown_the_worst_first():
    sliced = {"slice/city=Oslo/rows": 31.0, "slice/city=Oslo/accuracy": 0.9, "slice/city=Oslo/recall": 0.8}
    sliced |= {"slice/city=Rome/rows": 40.0, "slice/city=Rome/accuracy": 0.7}
    reason = "int8 slice/recall of city=Oslo, 31 rows: 0.5, limit 0.7"
    gate = {"variant": "int8", "gate": "slice/recall", "passed": False, "limit": 0.7, "measured": 0.5, "reason": reason}
    version = {"ordinal": 1, "version_id": "e" * 64, "dataset_id": "d", "state": "released", "reason": None}
    version |= {"model": "m", "epochs": 3, "task": "classification", "measure": "", "gates": [gate]}
    version |= {"metrics": {"accuracy": 0.8, **sliced}, "variants": [{"name": "fp32", "metrics": {"accuracy": 0.8}}]}

    shown = text_of(tables.versions([version])).splitlines()

    (head,) = (line for line in shown if line.split()[:2] == ["slice", "rows"])
    assert head.split() == ["slice", "rows", "accuracy", "recall"]
    slices = [line.split() for line in shown if line.strip().startswith("city=")]
    assert slices == [["city=Rome", "40", "0.7000"], ["city=Oslo", "31", "0.9000", "0.8000"]]
    assert reason in "\n".join(shown)
    assert "does not apply" not in "\n".join(shown)


def test_what_a_version_took_is_told(headrace, full):
    told = " ".join(headrace("get", "versions").stdout.split())
    assert "took 12.3 s of processor time and 812.0 MB of memory to train" in told
    assert "cost" not in told


def test_what_a_version_cost_is_told_where_the_trainer_has_prices(canned) -> None:
    message = canned.version(messages.VERSION_STATE_RELEASED)
    before = version_view(message)
    message.trained.MergeFrom(ModelTrained(gpu_s=2.5, cost=0.00342, currency="EUR"))
    view = version_view(message)
    assert (view["gpu_s"], view["cost"], view["currency"]) == (2.5, 0.00342, "EUR")

    told = text_of(tables.versions([before, view]))
    assert "12.3 s of processor time, 2.5 s of a GPU and 812.0 MB of memory to train, which cost 0.0034 EUR" in told
    head, *rows = told.splitlines()
    assert ("cost" in head, "CPU" in head) == (True, False)
    assert ["EUR" in row for row in rows if "released" in row] == [False, True]


def test_what_a_version_may_tell_of_a_row_is_told(canned) -> None:
    message = canned.version(messages.VERSION_STATE_RELEASED)
    assert "may tell of one row" not in text_of(tables.versions([version_view(message)]))
    message.trained.privacy.MergeFrom(PrivacySpent(epsilon=2.991, delta=1e-5))
    view = version_view(message)
    assert view["privacy"] == {"epsilon": 2.991, "delta": 1e-5}
    told = "version 1 of digits may tell of one row that it learned from: epsilon 2.99, delta 1e-05"
    assert told in text_of(tables.versions([view]))
    chain: View = {"prediction": None, "version": view, "runs": [], "origin": None, "dataset": None, "topic": None}
    assert "epsilon 2.99, delta 1e-05" in text_of(tables.lineage(chain))


@pytest.mark.parametrize(
    ("cost", "told"),
    [(None, ""), (0.0, "0.00 EUR"), (0.00002, "0.000020 EUR"), (0.5, "0.50 EUR"), (1234.5, "1,234.50 EUR")],
)
def test_what_is_less_than_a_cent_keeps_its_digits(cost: float | None, told: str) -> None:
    assert cost_text({"cost": cost, "currency": "EUR"}) == told


def test_an_rmse_of_prices_leaves_room_for_the_state() -> None:
    common = {"ordinal": 1, "version_id": "sha256:1", "dataset_id": "sha256:2", "state": "released", "reason": None}
    metrics = {"rmse": 52081.679312, "baseline_rmse": 165023.98731}
    prices = common | {
        "model": "prices",
        "task": "regression",
        "measure": "rmse",
        "epochs": 3,
        "metrics": metrics,
        "gates": [],
        "variants": [],
    }

    shown = text_of(tables.versions([prices]))

    assert "52081.7    165024  released" in shown
    assert max(map(len, shown.splitlines())) <= 80


def text_of(parts, width=120):
    written = StringIO()
    console = Console(width=width, file=written)
    for part in parts:
        console.print(part)
    return written.getvalue()


@pytest.mark.parametrize("kind", ["datasets", "runs", "versions", "releases"])
def test_nothing_there_is_no_failure(headrace, registry, kind):
    result = headrace("get", kind)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"no {kind} yet" in result.stderr
    assert json.loads(headrace("get", kind, "--json").stdout) == []


def test_an_unknown_pipeline_is_a_failure(headrace, registry):
    result = headrace("get", "pipelines", "letters")
    assert result.exit_code == 1
    assert "there is no pipeline 'letters'" in result.stderr


def test_the_name_is_sent(headrace, full):
    headrace("get", "versions", "digits")
    assert full.requests[-1] == messages.ListVersionsRequest(model="digits")
    headrace("get", "runs", "digits")
    assert full.requests[-1] == messages.ListRunsRequest(pipeline="digits")


def test_a_loss_that_is_no_number_is_null(headrace, registry, canned):
    run = canned.training(messages.RUN_STATE_RUNNING)
    run.progress.CopyFrom(RunProgressed(step=1, steps=2, metrics={"train_loss": float("nan")}))
    registry.runs = [run]
    assert rows_of(headrace, "runs")[0]["progress"]["metrics"] == {"train_loss": None}


def test_an_unknown_kind_is_wrong_usage(headrace, registry):
    result = headrace("get", "models")
    assert result.exit_code == 2
    assert "'models' is not one of" in result.stderr
