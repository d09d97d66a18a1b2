"""Permutation importance: what a model looks at, told by answers alone."""

import html
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from headrace_client.report.facts import VersionFacts
from headrace_client.report.importance import FEWEST_ROWS, MOST_ANSWERS, importance
from headrace_client.report.version_page import version_page
from headrace_data.tasks import TASKS

from .test_report_of_evaluations import FACTS

Array = np.ndarray[Any, Any]
GENERATOR = np.random.default_rng(2)
COLUMNS = {
    "much": GENERATOR.normal(size=400),
    "little": GENERATOR.normal(size=400),
    "word": GENERATOR.choice(np.array(["a", "b"], object), 400),
    "unseen": GENERATOR.normal(size=(400, 3)),
}


def number(columns: Mapping[str, Array]) -> dict[str, Array]:
    return {"prediction": 3 * columns["much"] + columns["little"] + 0.5 * (columns["word"] == "a")}


def test_features_are_ranked_by_what_answers_rest_on() -> None:
    truth = number(COLUMNS)["prediction"]
    found = importance(number, COLUMNS, truth, TASKS["regression"], ())
    assert list(found) == ["much", "little", "word", "unseen"]
    # Of two independent values the difference has twice the variance.
    assert found["much"] == pytest.approx(3 * 2**0.5 * COLUMNS["much"].std(), rel=0.1)
    assert found["unseen"] == 0.0
    assert found == importance(number, COLUMNS, truth, TASKS["regression"], ())


def test_of_a_rare_class_the_log_loss_tells_what_no_answer_shows() -> None:
    """No row is answered 'fraud', so that accuracy would call every feature unimportant."""

    def rare(columns: Mapping[str, Array]) -> dict[str, Array]:
        share = np.where(columns["much"] > 1.5, 0.4, 0.01).astype(np.float32)
        probabilities = np.stack([share, 1 - share], axis=1)
        return {"probabilities": probabilities, "label": np.full(len(share), "ok", object)}

    truth = np.where(COLUMNS["much"] > 1.5, np.where(COLUMNS["little"] > 0, "fraud", "ok"), "ok").astype(object)
    found = importance(rare, COLUMNS, truth, TASKS["classification"], ["fraud", "ok"])
    assert next(iter(found)) == "much"
    assert found["much"] > 0.1 > found["little"] == 0.0


def test_rows_are_bounded_and_too_few_say_nothing() -> None:
    seen: list[int] = []

    def counted(columns: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(len(next(iter(columns.values()))))
        return {"prediction": np.zeros(seen[-1])}

    wide = {f"f{place}": np.zeros(400) for place in range(500)}
    assert len(importance(counted, wide, np.zeros(400), TASKS["regression"], ())) == 500
    assert set(seen) == {MOST_ANSWERS // 500}
    few = {name: column[: FEWEST_ROWS - 1] for name, column in COLUMNS.items()}
    assert importance(counted, few, np.zeros(FEWEST_ROWS - 1), TASKS["regression"], ()) == {}
    assert importance(counted, {"alone": np.zeros(400)}, np.zeros(400), TASKS["regression"], ()) == {}


def test_rows_of_a_ranking_whose_groups_have_one_row_say_nothing() -> None:
    truth = np.stack([np.arange(400) % 2, np.arange(400)], axis=1).astype(np.float64)

    def scored(columns: Mapping[str, Array]) -> dict[str, Array]:
        return {"score": np.asarray(next(iter(columns.values())), np.float32)}

    assert importance(scored, COLUMNS, truth, TASKS["ranking"], ()) == {}
    truth[:, 1] //= 4
    assert importance(scored, COLUMNS, truth, TASKS["ranking"], ()).keys() == COLUMNS.keys()


def test_the_page_shows_the_greatest_first() -> None:
    rises = {f"feature {place}": 1.0 / (place + 1) for place in range(23)}
    facts = VersionFacts(FACTS.version, FACTS.manifest, FACTS.answers, FACTS.label, importance=rises)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.unescape(version_page(facts))))
    assert "Importance of features" in text
    assert "feature 0 +1 feature 1 +0.5" in text
    assert "feature 20" not in text
    assert "3 more rise by less." in text
