"""The page of a version that was measured beside others."""

import html
import re
from typing import Any

import numpy as np
from headrace_client.report.facts import Answers, Estimates, Texts, VersionFacts
from headrace_client.report.version_page import version_page

FACTS = VersionFacts(
    version={
        "model": "penguins",
        "ordinal": 3,
        "version_id": "sha256:" + "e" * 64,
        "state": "released",
        "reason": None,
        "epochs": 40,
        "task": "classification",
        "measure": "accuracy",
        "metrics": {"accuracy": 0.9},
        "variants": [],
        "gates": [{"variant": "int8", "gate": "sizeRatio", "passed": True, "limit": 1.0, "measured": 0.61}],
        "evaluations": [],
    },
    manifest={},
    answers=Answers("fp32", np.array([0, 1]), np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1]),
    label="species",
)


def changed(**version: Any) -> str:
    page = version_page(VersionFacts({**FACTS.version, **version}, FACTS.manifest, FACTS.answers, FACTS.label))
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html.unescape(page), flags=re.DOTALL))


def test_what_was_measured_on_both_splits_together_is_shown() -> None:
    own, champion = FACTS.version["version_id"], "sha256:" + "c" * 64
    values = {(own, "d1"): 0.9, (champion, "d1"): 0.8, (own, "d2"): 0.7, (champion, "d2"): 0.6}
    values |= {(own, ""): 0.85, (champion, ""): 0.75}
    told = [
        {"version_id": version, "dataset_id": dataset and f"sha256:{dataset * 32}", "rows": 9, "metrics": {"f1": value}}
        for (version, dataset), value in values.items()
    ]
    page = changed(evaluations=told)
    heads = [
        f"{who}, {on}" for on in ("d1" * 6, "d2" * 6, "together") for who in ("this version", "champion " + "c" * 12)
    ]
    assert " ".join([*heads, "F1", *(str(value) for value in values.values())]) in page
    assert "both splits together, by which accuracy is compared" in page


def test_a_measure_that_a_constant_wins_stands_beside_the_headline() -> None:
    metrics = {"accuracy": 0.44, "baseline_accuracy/Adelie": 0.44}
    metrics |= {"calibration_error": 0.1, "baseline_calibration_error": 0.0}
    page = changed(measure="calibration_error", metrics=metrics)
    assert "always 'Adelie' would be 44.0% by accuracy, and it is 44.0%: no better than that" in page


def test_a_forecast_is_told_by_its_pinball_loss_and_drawn_by_its_medians() -> None:
    metrics = {"pinball": 3.25, "coverage": 0.81, "median_mae": 7.5, "coverage_error": 0.01, "baseline_pinball": 9.0}
    answers = Estimates("fp32", np.array([1.0, 5.0]), np.array([2.0, 4.0]))
    told = {**FACTS.version, "task": "quantile", "measure": "pinball", "metrics": metrics}
    page = html.unescape(version_page(VersionFacts(told, {}, answers, "y")))
    text = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert "pinball loss 3.25 on 2 test rows; always answering the same quantiles would be 9" in text
    assert "coverage 81.0% rows between the outer quantiles" in text
    assert "Predicted and true" in text


def test_a_model_of_language_is_told_by_its_measures() -> None:
    metrics = {"perplexity": 3.2, "bits_per_byte": 0.7, "nats_per_token": 1.16, "baseline_bits_per_byte": 2.9}
    told = {**FACTS.version, "task": "generation", "measure": "perplexity", "metrics": metrics}
    texts = Texts("fp32", np.array(["a short answer"] * 5, dtype=object))
    page = html.unescape(version_page(VersionFacts(told, {}, texts, "answer")))
    text = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert "guessing each byte of an answer by the one before it would be 2.9" in text
    assert "bits per byte 0.7" in text


def test_what_a_version_may_tell_of_a_row_is_told() -> None:
    text = changed(privacy={"epsilon": 2.991, "delta": 1e-5})
    assert "epsilon 2.99 at most, of one row that it learned from; delta 1e-05" in text
    assert "epsilon" not in changed()


def test_what_a_version_cost_is_told() -> None:
    taken = {"cpu_s": 12.345, "peak_memory_bytes": 812_000_000, "gpu_s": 2.5, "cost": 0.00342, "currency": "EUR"}
    text = changed(**taken)
    assert "processor time 12.3 s to train, in 812 MB of memory GPU time 2.5 s" in text
    assert "cost 0.0034 EUR to train, by the trainer's prices" in text
    assert "by the trainer's prices" not in changed()
