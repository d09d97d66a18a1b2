"""The pages of a dataset and of versions: what they say, and how a browser shows them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from headrace_client.report.dataset_page import dataset_page
from headrace_client.report.facts import Answers, DatasetFacts, Estimates, VersionFacts
from headrace_client.report.version_page import version_page
from headrace_client.views import View
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, OffsetRange, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_runtime.object_store import ObjectStore

EXAMPLES = Path(__file__).parents[3] / "examples"
EVIL = "<script>alert(1)</script>"
MANIFEST = {"best_epoch": 29, "parameters": 1443}
REJECTED = {"json": 1, "type": 1, "outOfRange": 1, "duplicates": 1, "contaminated": 5}


def freeze(store: ObjectStore, spec: str, **same: str) -> DatasetFacts:
    """Freeze the penguins as a pipeline prepares them; `same` is what all of them have alike."""
    pipeline = load_pipeline(spec)
    lines = (EXAMPLES / "penguins" / "rows.jsonl").read_bytes().splitlines()
    records = [json.dumps(json.loads(line) | same).encode() for line in lines]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    told: dict[str, Any] = {"cluster_id": "c-1", "topic": "penguins", "topic_id": "t-1", "clean_ranges": ()}
    told |= {"sources": (OffsetRange(partition=0, start=0, end=348),), "rejected": REJECTED}
    manifest = only_dataset(writer.finish(Provenance(**told)), pipeline, store)
    return DatasetFacts(dataset_of(manifest), manifest, DatasetReader(manifest, store).columns_of())


def dataset_of(manifest: Manifest) -> View:
    return {
        "dataset_id": manifest.dataset_id,
        "rows": {name: split.rows for name, split in manifest.splits.items()},
        "rejected": dict(manifest.provenance.rejected),
        "masked": {"email": 1200, "phone": 3},
        "sources": [{"partition": 0, "start": 0, "end": 348}],
        "freeze_time": "2026-05-17T14:30:00.000Z",
    } | {"repeated_keys": 7, "late_rows": 12, "rarest": None, "leaks": None, "outliers": []}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    return ObjectStore(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def species(store: ObjectStore) -> DatasetFacts:
    return freeze(store, (EXAMPLES / "penguins-species" / "pipeline.yaml").read_text())


@pytest.fixture(scope="session")
def mass(store: ObjectStore) -> DatasetFacts:
    return freeze(store, (EXAMPLES / "penguins-mass" / "pipeline.yaml").read_text())


def version_of(metrics: dict[str, float], variants: dict[str, dict[str, float]], **more: Any) -> View:
    gates = [
        {"variant": "int8", "gate": "sizeRatio", "passed": True, "limit": 1.0, "measured": 0.61},
        {"variant": "int8", "gate": "agreement", "passed": False, "limit": 0.98, "measured": 0.942},
    ]
    kind, measure = ("regression", "rmse") if "rmse" in metrics else ("classification", "accuracy")
    return {
        "model": "penguins",
        "ordinal": 3,
        "version_id": "sha256:" + "e" * 64,
        "state": "released",
        "reason": None,
        "epochs": 40,
        "task": kind,
        "measure": measure,
        "metrics": metrics,
        "variants": [{"name": name, "metrics": measured} for name, measured in variants.items()],
        "gates": gates,
        "evaluations": [],
        **more,
    }


def facts_of(dataset: DatasetFacts, version: View, answers: Answers | Estimates, label: str) -> VersionFacts:
    curve = [
        {"epoch": epoch, "train_loss": 1.1 / epoch**0.5, "validation_loss": 1.0 / epoch**0.4 + epoch / 400}
        | ({"validation_accuracy": 1 - 0.6 / epoch} if isinstance(answers, Answers) else {})
        for epoch in range(1, 41)
    ]
    ended = "2026-05-17T14:31:12.000Z"
    runs = [{"kind": "training", "state": "succeeded", "run_id": "training-17ab", "end_time": ended}]
    release = {"variant": "fp32", "epoch": 3, "alias": "champion", "release_time": ended}
    return VersionFacts(version, MANIFEST, answers, label, curve, runs, dataset.dataset, "penguins", release)


@pytest.fixture(scope="session")
def classifier(species: DatasetFacts) -> VersionFacts:
    """A made-up model: right in nine of ten rows, and not as sure as it should be."""
    generator = np.random.default_rng(7)
    truth, classes = species.columns["test"]["species"], species.manifest.classes
    places = np.array([classes.index(value) for value in truth])
    given = np.where(generator.random(len(places)) < 0.1, (places + 1) % len(classes), places)
    sure = generator.uniform(0.55, 0.99, len(places))
    probabilities = np.repeat(((1 - sure) / (len(classes) - 1))[:, np.newaxis], len(classes), axis=1)
    probabilities[np.arange(len(places)), given] = sure
    labels = np.array([classes[place] for place in given], dtype=object)
    variants = {
        "fp32": {"latency_ms_batch_1": 0.031, "accuracy": 0.904, "size_bytes": 9_120.0, "accuracy/Adelie": 0.9},
        "int8": {"latency_ms_batch_1": 0.024, "accuracy": 0.885, "size_bytes": 5_577.0, "agreement": 0.942},
    }
    metrics = {"accuracy": 0.904, "log_loss": 0.31, "baseline_accuracy/Adelie": 0.44, "trees_accuracy": 0.973}
    metrics["calibration_error"] = 0.12
    return facts_of(
        species, version_of(metrics, variants), Answers("fp32", truth, labels, probabilities, classes), "species"
    )


@pytest.fixture(scope="session")
def regression(mass: DatasetFacts) -> VersionFacts:
    truth = mass.columns["test"][mass.manifest.label.name].astype(np.float64)
    given = truth + np.random.default_rng(7).normal(0, 300, len(truth))
    variants = {"fp32": {"latency_ms_batch_1": 0.03, "rmse": 302.0, "size_bytes": 9_000.0}}
    metrics = {"rmse": 302.0, "mae": 240.0, "r2": 0.86, "baseline_rmse": 790.0}
    version = version_of(metrics, variants, gates=[], state="candidate")
    return facts_of(mass, version, Estimates("fp32", truth, given), "body_mass_g (g)")


@pytest.fixture(scope="session")
def pages(
    species: DatasetFacts, mass: DatasetFacts, classifier: VersionFacts, regression: VersionFacts
) -> dict[str, str]:
    return {
        "dataset": dataset_page(species),
        "dataset-regression": dataset_page(mass),
        "version": version_page(classifier),
        "version-regression": version_page(regression),
    }


def plain(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def test_a_dataset_is_told_whole(pages: dict[str, str], species: DatasetFacts) -> None:
    text = plain(pages["dataset"])
    assert species.manifest.dataset_id in text
    for field in species.manifest.features:
        assert field.name in text
    words = ("Adelie", "Chinstrap", "Gentoo", "missing becomes unknown", "onehot", "headrace dead list")
    for word in (*words, "contaminated: a training row nearly repeats one of validation or test"):
        assert word in text
    assert "bill_length_mm 2 (0.6%)" in text
    assert "rejected 4" in text
    tiles = "left out 5 rows that training is without masked 1,203 email 1,200, phone 3 repeated keys 7 rows"
    assert f"{tiles} with the key of another row late 12 rows over a minute older than others before them" in text


def test_a_label_of_numbers_is_drawn_as_a_distribution(pages: dict[str, str]) -> None:
    assert "Distribution of body_mass_g in the three splits" in pages["dataset-regression"]


def test_a_classifier_is_told_whole(pages: dict[str, str]) -> None:
    text = plain(pages["version"])
    words = ("epoch 29", "Confusion matrix", "Calibration error", "fp32 (served)", "agreement 0.942 ≥ 0.98 failed")
    for word in (*words, "trees 97.3% accuracy of trees of", "sizeRatio 0.61 ≤ 1 passed", "partition 0: 0 to 348"):
        assert word in text


def test_a_regression_has_residuals_and_no_classes(pages: dict[str, str]) -> None:
    text = plain(pages["version-regression"])
    assert "Residuals" in text
    assert "rmse" in text
    assert "Confusion" not in text


def changed(facts: VersionFacts, **version: Any) -> str:
    """Return the text of a page of a version in which something is otherwise."""
    return unescape(plain(version_page(replace(facts, version={**facts.version, **version}))))


def test_always_the_same_answer_stands_beside_the_accuracy(
    pages: dict[str, str], classifier: VersionFacts, regression: VersionFacts
) -> None:
    assert "test rows; always 'Adelie' would be 44.0% log loss" in unescape(plain(pages["version"]))
    assert "always answering the mean would be 790 mae" in plain(pages["version-regression"])
    poor = changed(classifier, metrics={"accuracy": 0.2, "baseline_accuracy/Adelie": 0.44})
    assert "always 'Adelie' would be 44.0%: no better than that" in poor
    poor = changed(regression, metrics={"rmse": 800.0, "baseline_rmse": 790.0})
    assert "always answering the mean would be 790: no better than that" in poor
    assert "always" not in changed(classifier, metrics={"accuracy": 0.9})


def test_only_two_are_compared(classifier: VersionFacts) -> None:
    own = {"version_id": classifier.version["version_id"], "dataset_id": "d", "rows": 50}
    metrics = {"accuracy": 0.9, "log_loss": 0.3}
    champion = {**own, "version_id": "sha256:" + "c" * 64}
    assert "Against the champion" not in changed(classifier, evaluations=[{**own, "metrics": metrics}])
    both = changed(classifier, evaluations=[{**one, "metrics": metrics} for one in (own, champion)])
    assert "this version champion cccccccccccc accuracy 0.9 0.9 log loss 0.3 0.3" in both


def test_what_the_marks_of_variants_mean_is_what_is_drawn(classifier: VersionFacts) -> None:
    page = version_page(classifier)
    assert "No variant outdoes another in times, size, memory and accuracy together." in page
    worse = {"name": "slow", "metrics": {"latency_ms_batch_1": 0.05, "accuracy": 0.8, "size_bytes": 9_120.0}}
    text = changed(classifier, variants=[*classifier.version["variants"], worse])
    assert "A pale variant is outdone" in text
    assert "slow (outdone)" in text
    assert "fp32 (served)" in text


def test_the_largest_error_is_told_by_its_size(regression: VersionFacts) -> None:
    assert isinstance(regression.answers, Estimates)
    estimates = replace(regression.answers, predictions=regression.answers.truth - 450.5)
    assert "the largest is 450.5 in size." in plain(version_page(replace(regression, answers=estimates)))


def test_classes_of_a_boolean_are_called_true_and_false(classifier: VersionFacts) -> None:
    truth, labels = np.array([0, 1, 1, 0], np.uint8), np.array([0, 1, 0, 0], np.uint8)
    answers = Answers("fp32", truth, labels, np.full((4, 2), 0.5), [0, 1], flag=True)
    facts = replace(classifier, answers=answers, manifest={"rows": {"test": 1}})
    text = changed(facts, metrics={"accuracy": 0.5, "baseline_accuracy/1": 0.5})
    assert "true answered as false: 1 of 2" in text
    assert "true 50.0% of 2" in text
    assert "on 1 test row; always 'true' would be 50.0%" in text


def test_one_is_counted_as_one(store: ObjectStore) -> None:
    text = plain(
        dataset_page(freeze(store, (EXAMPLES / "penguins-species" / "pipeline.yaml").read_text(), island="Dream"))
    )
    assert "1 value " in text
    assert "1 input, one for each category" in text
    assert "1 values" not in text
    assert "1 inputs" not in text


def test_of_many_classes_those_that_are_mixed_up_are_listed(classifier: VersionFacts) -> None:
    truth = np.arange(900) % 300
    labels = np.where(np.arange(900) < 3, 7, truth)
    answers = Answers("int8", truth, labels, np.full((900, 300), 1 / 300), range(300))
    manifest = {"rows": {"test": 5000}}
    text = plain(version_page(VersionFacts(classifier.version, manifest, answers, "kind")))
    assert "Confusion matrix" not in text
    assert "Variant int8 on the first 900 of 5,000 rows of the test split." in text
    assert "66.7% of 3" in text
    assert "No curve was kept" in text


def test_a_label_of_many_numbers_is_drawn_even_when_it_is_whole(mass: DatasetFacts) -> None:
    weights = sorted({int(value) for value in mass.all_rows("body_mass_g")})
    manifest = mass.manifest.model_copy(update={"classes": tuple(weights)})
    page = dataset_page(DatasetFacts(mass.dataset, manifest, mass.columns))
    assert "Distribution of body_mass_g in the three splits" in page


def test_texts_of_records_cannot_break_out(classifier: VersionFacts) -> None:
    answers = classifier.answers
    assert isinstance(answers, Answers)
    evil = Answers(EVIL, answers.truth, answers.labels, answers.probabilities, [EVIL, *answers.classes[1:]])
    version = {**classifier.version, "model": EVIL, "reason": EVIL}
    page = version_page(VersionFacts(version, classifier.manifest, evil, EVIL))
    assert "&lt;script&gt;" in page
    assert "<script" not in page


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
]
LOOK = """(() => {
  const box = (one) => one.getBoundingClientRect();
  const drawn = [...document.querySelectorAll("figure svg")].map(box);
  const outside = [...document.querySelectorAll("body *")].filter(
    (one) => !one.closest(".scroll, nav") && box(one).right > innerWidth + 1);
  return JSON.stringify({
    charts: drawn.length,
    smallest: Math.min(...drawn.map((one) => Math.min(one.width, one.height))),
    overflow: document.documentElement.scrollWidth - innerWidth,
    outside: outside.map((one) => one.outerHTML.slice(0, 80)),
    colour: getComputedStyle(document.body).backgroundColor,
    nameless: [...document.querySelectorAll("svg[role=img]")].filter((one) => !one.getAttribute("aria-label")).length,
  });
})()"""


class Browser:
    """Chromium, spoken to over its own pipe: messages are JSON, each ended by a zero byte."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result; what happens meanwhile goes to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda heard: heard.get("id") == self._number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, url: str, width: int, scheme: str) -> dict[str, Any]:
        """Show a page at a width in a colour scheme and return what is to be seen there."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda heard: heard.get("method") == "Page.loadEventFired")
        seen: dict[str, Any] = json.loads(self.call("Runtime.evaluate", expression=LOOK)["result"]["value"])
        return seen

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            while b"\0" not in self._rest:
                heard = self._reader.read(65_536)
                assert heard, "the browser has gone"
                self._rest += heard
            raw, _, self._rest = self._rest.partition(b"\0")
            message: dict[str, Any] = json.loads(raw)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    to_browser, from_browser = os.pipe(), os.pipe()
    # Chromium reads commands from descriptor 3 and answers at 4, whatever the pipes are called here.
    actions = [
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, to_browser[0], 3),
        (os.POSIX_SPAWN_DUP2, from_browser[1], 4),
    ]
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    environment = os.environ | {"DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    process = os.posix_spawn(command[0], command, environment, file_actions=actions, setpgroup=0)
    for end in (to_browser[0], from_browser[1]):
        os.close(end)
    try:
        with os.fdopen(from_browser[0], "rb", 0) as reader, os.fdopen(to_browser[1], "wb", 0) as writer:
            yield Browser(reader, writer)
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here to look at the pages with")
def test_a_browser_shows_the_pages_whole_at_any_width(pages: dict[str, str], tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as browser:
        for name, text in pages.items():
            path = tmp_path / f"{name}.html"
            path.write_text(text, encoding="utf-8")
            colours = set()
            for width, scheme in ((1280, "light"), (400, "dark")):
                seen = browser.open(path.as_uri(), width, scheme)
                assert seen["charts"] >= 5, (name, seen)
                assert seen["smallest"] > 50, (name, width, seen)
                assert seen["overflow"] <= 0, (name, width, seen)
                assert seen["outside"] == [], (name, width)
                assert seen["nameless"] == 0
                colours.add(seen["colour"])
                asked = [one["params"]["request"]["url"] for one in browser.events if one["method"] == REQUEST]
                assert set(asked) - {"data:,"} == {path.as_uri()}
                assert [one for one in browser.events if one["method"] in COMPLAINTS] == []
            assert len(colours) == 2, f"{name} looks alike in light and dark"


REQUEST = "Network.requestWillBeSent"
COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
