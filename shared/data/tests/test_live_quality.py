from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from headrace_data.batches import LINEAGE, TIME, TIME_TYPE, arrow_schema
from headrace_data.errors import SpecInvalid
from headrace_data.live_quality import MOST_CANARIES, LiveQuality
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.tasks import TASKS

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: loans}}
stream:
  topic: loans
  labels: {{topic: outcomes, within: 100s}}
  schema:
    - {{name: loan, type: int64, role: id}}
    - {{name: amount, type: float32, role: feature}}
    - {{name: repaid, type: {type}, role: label}}
train:
  network: {{kind: mlp, hidden: [4]}}
serve: {{quality: true}}
"""
CLASSES: dict[str, list[Any]] = {"string": ["no", "yes", "late"], "int64": [0, 1, 7], "bool": [0, 1]}
ROWS = 400
S = 1_000_000


def pipeline(label: str) -> Pipeline:
    return load_pipeline(DOCUMENT.format(type=label))


def labels_of(of: Pipeline, keys: list[int], values: list[Any], time_s: float) -> pa.RecordBatch:
    schema = arrow_schema(of.stream.of_labels.fields)
    columns = {"loan": keys, "repaid": values} | {name: [0] * len(keys) for name in LINEAGE if name != TIME}
    times = pa.array([round(time_s * S)] * len(keys), pa.int64()).cast(TIME_TYPE)
    arrays = [times if each.name == TIME else pa.array(columns[each.name], each.type) for each in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@pytest.mark.parametrize("label", ["string", "int64", "bool", "float32"])
def test_live_measures_are_those_of_the_same_rows_offline(label: str) -> None:
    """Labels before and behind the calls, in any order and in small pieces: equal to 1e-9."""
    dice, of = np.random.default_rng(3), pipeline(label)
    task = TASKS[of.task]
    if label == "float32":
        truth = dice.normal(size=ROWS).astype(np.float32)
        answers = {"prediction": (truth + dice.normal(size=ROWS) / 3).astype(np.float32)}
        places, scores = list[str](), task.scores(())
    else:
        classes: list[Any] = CLASSES[label]
        places, scores = [str(each) for each in classes], task.scores(classes)
        probabilities = dice.dirichlet(np.ones(len(classes)), ROWS).astype(np.float32)
        kind = object if label == "string" else np.uint8 if label == "bool" else np.int64
        values = np.array(classes, kind)
        truth, told = values[dice.integers(len(classes), size=ROWS)], values[probabilities.argmax(axis=1)]
        answers = {"probabilities": probabilities, "label": told}
    scores.add(answers, truth)

    live, order = LiveQuality(of), dice.permutation(ROWS)
    early, late = order[: ROWS // 3], order[ROWS // 3 :]

    def tell(rows: npt.NDArray[np.int64]) -> None:
        for some in np.array_split(rows, 7):
            values = [each.item() if hasattr(each, "item") else each for each in truth[some]]
            live.labelled(labels_of(of, some.tolist(), values, 1_000.0), 0)

    tell(early)
    for some in np.array_split(np.arange(ROWS), 90):
        part = {name: each[some] for name, each in answers.items()}
        live.answered("v", places, 1_010 * S, [str(key) for key in some], part, len(some))
        live.measured()
    tell(late)
    found = live.measured()["v"]
    expected = scores.metrics()
    assert (found.rows, found.awaiting, found.unmeasured) == (ROWS, 0, 0)
    assert found.metrics.keys() == expected.keys()
    assert found.metrics == pytest.approx(expected, rel=0, abs=1e-9)


def test_what_cannot_be_measured_or_has_no_label_in_time_is_counted() -> None:
    of = pipeline("int64")
    live, one = LiveQuality(of), {"probabilities": np.array([[0.1, 0.9]], np.float32), "label": np.array([1])}
    live.answered("v", ["0", "1"], 1_000 * S, [], one, 1)
    live.answered("v", ["0", "1"], 1_000 * S, ["x"], one, 1)
    live.answered("v", ["0", "1"], 1_000 * S, ["5"], {"label": one["label"]}, 1)
    live.answered("v", ["0", "1"], 1_000 * S, ["6"], one, 1)
    live.answered("v", ["0", "1"], 1_050 * S, ["6"], one, 1)
    live.labelled(labels_of(of, [6], [1], 1_120.0), 0)  # too late for the first of the two
    found = live.measured()["v"]
    assert (found.rows, found.awaiting, found.unlabelled, found.unmeasured) == (1, 0, 1, 3)
    live.labelled(labels_of(of, [6], [0], 1_121.0), 0)
    live.answered("v", ["0", "1"], 1_130 * S, ["6"], one, 1)
    # The first label of a key counts.
    assert live.measured()["v"].metrics["accuracy"] == 1.0
    live.answered("w", ["0", "1"], 1_500 * S, ["6"], one, 1)
    assert (live.measured()["w"].rows, live.measured()["w"].awaiting) == (0, 1)
    assert live.measured()["w"].metrics == {}


def test_quality_needs_labels_that_come_later_and_answers_row_by_row() -> None:
    document = DOCUMENT.format(type="int64").replace("  labels: {topic: outcomes, within: 100s}\n", "")
    with pytest.raises(SpecInvalid, match=r"serve.quality: expected stream.labels beside it"):
        load_pipeline(document)


def test_answers_to_the_calls_of_a_canary_are_measured_by_themselves() -> None:
    """A candidate and the champion, and what each answered at other times: told apart, and the same rows in both."""
    of = pipeline("int64")
    live = LiveQuality(of)

    def answer(version: str, keys: list[int], told: int, tried: str = "") -> None:
        probabilities = np.tile(np.eye(2, dtype=np.float32)[told], (len(keys), 1))
        answers = {"probabilities": probabilities, "label": np.full(len(keys), told)}
        live.answered(version, ["0", "1"], 1_000 * S, [str(key) for key in keys], answers, len(keys), tried)

    answer("champion", [*range(10)], 0)
    answer("champion", [*range(10, 40)], 1, tried="candidate")
    answer("candidate", [*range(40, 50)], 0, tried="candidate")
    answer("candidate", [50, 51], 1)
    live.labelled(labels_of(of, [*range(60)], [1] * 60, 1_001.0), 0)
    whole = live.measured()
    assert [(version, each.rows, each.bounded) for version, each in whole.items()] == [
        ("champion", 40, None),
        ("candidate", 12, None),
    ]
    assert whole["champion"].metrics["accuracy"] == 0.75
    own, other = (live.canaries[version, "candidate"] for version in ("candidate", "champion"))
    assert (own.rows, other.rows) == (10, 30)
    assert own.bounded is not None
    assert other.bounded is not None
    assert (own.bounded.name, own.bounded.value, other.bounded.value) == ("accuracy", 0.0, 1.0)
    assert own.bounded.high < other.bounded.low


def test_the_canaries_of_long_ago_are_measured_no_more() -> None:
    live = LiveQuality(pipeline("int64"))
    one: dict[str, np.ndarray[Any, Any]] = {
        "probabilities": np.eye(2, dtype=np.float32)[:1],
        "label": np.zeros(1, np.int64),
    }
    order = [*range(10, 10 + MOST_CANARIES), 3]  # the topic's partitions are read in any order
    for number in order:
        live.answered("champion", ["0", "1"], number * S, [str(number)], one, 1, tried=f"v{number}")
    assert [tried for _, tried in live.canaries] == [f"v{number}" for number in order[:-1]]
    assert live.versions["champion"].awaiting == len(order)
