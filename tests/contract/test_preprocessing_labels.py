"""Labels that come later than their rows, on a real broker: each row once, with its label, whoever is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace.events.v1 import quality_pb2, segment_pb2
from headrace_data.tasks import TASKS
from headrace_inference.adapters.prediction_log import PredictionLog
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.served import Served
from headrace_inference.core.tensors import OutputTensor
from headrace_inference.transport.converters import outputs_part, to_served
from headrace_preprocessing.transport import late_labels
from headrace_runtime.kafka.envelopes import new_id

from .lanes import keys, ranges, sound

if TYPE_CHECKING:
    from headrace_preprocessing.settings import Settings

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600)]

Lanes = Callable[..., Any]
Until = Callable[..., None]
DAY_S = 24 * 3_600
FIRST_S = 1_700_000_000
"""When the first row's event happened, in seconds since 1970."""


def rows(start: int, stop: int, at_s: int = FIRST_S) -> list[dict[str, Any]]:
    """Return records without labels, of one moment."""
    return [
        {name: value for name, value in row.items() if name != "digit"} | {"at_s": at_s} for row in sound(start, stop)
    ]


def labels(*of: int, at_s: int = FIRST_S) -> list[bytes]:
    return [json.dumps({"key": key, "digit": key % 3, "at": at_s}).encode() for key in of]


def test_each_row_is_taken_once_with_its_label_however_often_the_service_is_killed(
    lanes: Lanes, start: Callable[..., Any], until: Until
) -> None:
    lane = lanes("{afterRecords: 60}")
    lane.label_later("7d, time: at")
    # The labels of some come before their rows, and one that is none.
    lane.label(*labels(*range(0, 60, 2)), b"{", b'{"key": 4, "digit": "four"}')
    lane.send((0, rows(0, 40)), (1, rows(40, 80)), (2, [*rows(80, 120), rows(120, 121)[0] | {"digit": 2}]))
    lane.apply()
    child = start()
    until(lambda: len(lane.rows()) == 121)
    assert not lane.frozen()

    # Killed after the cut was written, and before it could be committed.
    child.arm("commit")
    lane.label(*labels(*range(60, 120, 2)))
    child.wait_held("commit")
    child.kill()
    assert not lane.frozen()
    start()
    until(lane.frozen)
    (first,) = lane.frozen()
    assert sorted(keys(lane.dataset_rows(first))) == [*range(0, 120, 2), 120]
    assert {row["key"]: row["digit"] for row in lane.dataset_rows(first)} == {
        key: 2 if key == 120 else key % 3 for key in [*range(0, 120, 2), 120]
    }
    assert ranges(first.sources) == [(0, 0, 40), (1, 0, 40), (2, 0, 41)]
    assert [letter.header("dead-rule") for letter in lane.dead()] == ["json", "type"]

    # What waits is in no topic any more that is read from here on: it is in the store.
    lane.label(*labels(*range(1, 120, 2)))
    until(lambda: len(lane.frozen()) == 2)
    taken = [(row["key"], row["digit"]) for each in lane.frozen() for row in lane.dataset_rows(each)]
    assert sorted(taken) == [*((key, key % 3) for key in range(120)), (120, 2)]
    assert (first.awaiting_labels, lane.frozen()[1].awaiting_labels) == (60, 0)
    assert not lane.failed()


@pytest.mark.usefixtures("preprocessing")
def test_rows_without_labels_are_counted_and_a_request_is_answered(
    lanes: Lanes, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its rows had their labels, which come later from now on; more than a few are kept before a cut takes them.
    monkeypatch.setattr(late_labels, "MOST_ARRIVED", 20)
    lane = lanes()
    lane.apply()
    lane.send((2, sound(900, 960)))
    until(lambda: len(lane.rows()) == 60)
    lane.request("before")
    until(lane.frozen)
    lane.label_later("1d, time: at")
    lane.apply()
    lane.send((0, rows(0, 60)))
    until(lambda: len(lane.rows()) == 120)
    lane.request("first")
    until(lane.failed)
    assert lane.failed() == [("first", "no row has its label yet")]
    assert lane.history().awaiting.row_count == 60
    assert lane.facts(segment_pb2.SegmentCut)[-1].segments == 1

    lane.send((0, rows(60, 120, FIRST_S + 2 * DAY_S)))
    lane.label(*labels(*range(30), *range(60, 120), at_s=FIRST_S + DAY_S))
    until(lambda: lane.history().awaiting.label_count >= 20)
    assert (len(lane.frozen()), lane.history().awaiting.row_count) == (1, 60)
    lane.request("second")
    until(lambda: len(lane.frozen()) == 2)
    _, frozen = lane.frozen()
    assert sorted(keys(lane.dataset_rows(frozen))) == [*range(30), *range(60, 120)]
    assert ranges(frozen.sources) == [(0, 0, 120)]
    # The rows of the first day are known to be late once the second day is read.
    lane.label(*labels(999, at_s=FIRST_S + 2 * DAY_S))
    lane.send((1, sound(300, 360)))
    until(lambda: len(lane.rows()) == 240)
    lane.request("third")
    until(lambda: len(lane.frozen()) == 3)
    assert dict(lane.frozen()[2].rejected) == {"unlabelled": 30}
    assert dict(lane.manifest(lane.frozen()[2]).provenance.rejected) == {"unlabelled": 30}
    assert lane.history().awaiting.row_count == 0


@pytest.mark.usefixtures("preprocessing")
def test_answers_that_were_recorded_are_measured_once_their_labels_come(
    lanes: Lanes, lane_settings: Settings, until: Until
) -> None:
    lane = lanes()
    lane.label_later("7d", serve="{quality: true}")
    classes, dice = [0, 1, 2], np.random.default_rng(11)
    probabilities = dice.dirichlet(np.ones(3), 60).astype(np.float32)
    truth = dice.integers(3, size=60)
    answers = {"probabilities": probabilities, "label": probabilities.argmax(axis=1)}
    log = PredictionLog(lane_settings, "test", to_served)
    log.start()

    def calls(first: int, last: int, **of: str) -> None:
        async def record() -> None:
            for start in range(first, last, 5):
                rows = range(start, start + 5)
                part = {name: values[start : start + 5] for name, values in answers.items()}
                told = served(lane.pipeline.model, part, **of)
                told = told._replace(keys=tuple(map(str, rows)), places='["0", "1", "2"]')
                await log.record(told)

        asyncio.run(record())

    def label(first: int, last: int) -> None:
        lane.label(*(json.dumps({"key": key, "digit": int(truth[key])}).encode() for key in range(first, last)))

    # Some answers and labels were there before anybody looked.
    calls(0, 30)
    label(0, 10)
    label(40, 50)
    lane.apply()
    until(lambda: measured(lane).rows == 10)
    assert (measured(lane).awaiting_labels, measured(lane).unmeasured) == (20, 0)
    calls(30, 60)
    label(10, 40)
    label(50, 60)
    until(lambda: measured(lane).rows == 60)
    # Whoever begins anew tells of the same, once, and of no part.
    before = len(lane.facts(quality_pb2.QualityMeasured))
    lane.narrow("value", "[0, 1]", "[0, 2]")
    lane.apply()
    until(lambda: len(lane.facts(quality_pb2.QualityMeasured)) > before)
    assert {(fact.rows, fact.awaiting_labels) for fact in lane.facts(quality_pb2.QualityMeasured)[before:]} == {(60, 0)}
    scores = TASKS["classification"].scores(classes)
    scores.add(answers, truth)
    assert dict(measured(lane).metrics) == pytest.approx(scores.metrics(), rel=0, abs=1e-9)
    assert measured(lane).version_id == "v1"

    # In a canary the answers of the two are measured by themselves, too: of the same rows here, so they are alike.
    calls(0, 20, tried="v2")
    calls(0, 20, tried="v2", version="v2")
    calls(20, 25, version="v2")
    log.stop()
    until(lambda: measured(lane, "v2").rows == 25 and measured(lane, "v1", "v2").rows == 20)
    until(lambda: measured(lane, "v2", "v2").rows == 20)
    right = float((answers["label"][:20] == truth[:20]).mean())
    one, other = (measured(lane, version, "v2").compared for version in ("v1", "v2"))
    assert (one, one.name, one.low < right < one.high) == (other, "accuracy", True)
    assert one.value == pytest.approx(right, abs=1e-9)
    assert measured(lane, "v1").rows == 80


def measured(lane: Any, version: str = "v1", tried: str = "") -> quality_pb2.QualityMeasured:
    found = [
        each
        for each in lane.facts(quality_pb2.QualityMeasured)
        if (each.version_id, each.tried_version_id) == (version, tried)
    ]
    return found[-1] if found else quality_pb2.QualityMeasured()


def served(model: str, outputs: dict[str, Any], version: str = "v1", tried: str = "") -> Served:
    """Return an answered call of a release that is recorded."""
    datatypes = {"f": "FP32", "i": "INT64"}
    tensors = [
        OutputTensor(name, datatypes[values.dtype.kind], values.shape, values.tobytes())
        for name, values in outputs.items()
    ]
    release = Release(
        model,
        "champion",
        1,
        version,
        1,
        "fp32",
        Graph("memory://g", "sha256:x", 1),
        "d",
        "r",
        CachePolicy.OFF,
        records=True,
    )
    return Served(release, new_id(), 5, False, 0.001, b"", outputs_part(tensors), "", tried=tried)
