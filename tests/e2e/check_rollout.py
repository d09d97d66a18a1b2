"""A rollout through all services: what labels measure as worse goes back by itself, and what is better takes over."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace_client import HeadraceClientError, InferenceClient
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1_200)]

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: credits}
stream:
  topic: credits
  labels: {topic: repayments, key: loan, label: outcome}
  schema:
    - {name: loan, type: int64, role: id}
    - {name: amount, type: float32, role: feature}
    - {name: income, type: float32, role: feature}
    - {name: repaid, type: string, role: label}
prepare:
  freeze: {afterRecords: 450}
train:
  network: {kind: mlp, hidden: [8]}
  epochs: 30
  batchSize: 16
  seed: 7
compress: {variants: [], gates: {baseline: ignored}}
serve:
  quality: true
  cache: "off"
  rollout: {shadow: 1s, canary: [50, 100], every: 20s, calls: 60, errors: 0.2, latency: 100}
"""
ROWS = 450
"""Of each dataset: exactly as many as make a cut, so that no row is left for the next one."""
CALLED = 1_000_000
"""The first key that is asked."""
PAUSE_S = 0.03


def loan(key: int) -> dict[str, Any]:
    dice = np.random.default_rng(key)
    return {"loan": key, "amount": round(float(dice.uniform(0, 2)), 3), "income": round(float(dice.uniform(0, 2)), 3)}


def outcome(key: int) -> str:
    row = loan(key)
    return "yes" if row["income"] > row["amount"] else "no"


class Callers:
    """Ask for one loan after another, and tell how each went; nothing is asked twice."""

    def __init__(self, address: str, producer: KafkaProducer) -> None:
        self.failed: list[str] = []
        self.right: dict[str, Counter[bool]] = {}
        """By ordinal, how many answers were right and wrong."""
        self._address, self._producer, self._stop = address, producer, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def measured(self, qualities: Iterable[Mapping[str, Any]], ordinals: Mapping[str, str]) -> bool:
        """Return whether each answer is measured, and as right as it was; `ordinals` are by version."""
        found = {ordinals[each["version_id"]]: each for each in qualities}
        if {name: each["rows"] for name, each in found.items()} != {n: each.total() for n, each in self.right.items()}:
            return False
        accuracies = {name: each["metrics"]["accuracy"] for name, each in found.items()}
        expected = {name: counts[True] / counts.total() for name, counts in self.right.items()}
        assert accuracies == pytest.approx(expected, rel=0, abs=1e-9)
        return True

    def _run(self) -> None:
        with InferenceClient(self._address, patience_s=0.0) as client:
            for key in itertools.count(CALLED):
                if self._stop.wait(PAUSE_S):
                    return
                columns = {name: np.array([loan(key)[name]], np.float32) for name in ("amount", "income")}
                try:
                    answer = client.infer("credits", columns, keys=[key])
                except HeadraceClientError as error:
                    self.failed.append(str(error))
                    continue
                right = answer.outputs["label"][0] == outcome(key)
                self.right.setdefault(answer.version, Counter())[bool(right)] += 1
                self._producer.send("repayments", json.dumps({"loan": key, "outcome": outcome(key)}).encode())


def test_a_worse_candidate_goes_back_by_itself_and_a_better_one_takes_over(
    platform: Platform, headrace: Callable[..., Any], until: Callable[..., Any], tmp_path: Any
) -> None:
    """A third of the first dataset's labels are wrong, and all of the second's are turned round at their producer.

    Only who sees the labels of the calls can tell.
    """
    (document := tmp_path / "credits.yaml").write_text(DOCUMENT)
    applied = headrace("apply", str(document), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)

    def send(keys: Iterable[int], label: Callable[[int], str]) -> None:
        for key in keys:
            producer.send("credits", json.dumps(loan(key) | {"repaid": label(key)}).encode())
        producer.flush()

    def told(*arguments: str) -> Any:
        found = headrace(*arguments, "--json")
        assert found.returncode == 0, found.stdout + found.stderr
        return json.loads(found.stdout)

    def ended(ordinal: int) -> Mapping[str, Any] | None:
        own = [each for each in told("rollout", "credits") if each["ordinal"] == ordinal]
        refused = [each["reason"] for each in told("get", "versions", "credits") if each["state"] == "refused"]
        assert all("rollout, rolled back" in each for each in refused), refused
        return own[0] if own and own[0]["end_time"] else None

    turned = {"yes": "no", "no": "yes"}
    send(range(ROWS), lambda key: turned[outcome(key)] if key % 3 == 0 else outcome(key))
    waited = headrace("wait", "credits", "--timeout", "540s", "--json", timeout_s=560)
    assert waited.returncode == 0, waited.stdout + waited.stderr
    with Callers(platform.addresses["inference"], producer) as callers:
        send(range(1000, 1000 + ROWS), lambda key: turned[outcome(key)])
        worse = until("the candidate went back", lambda: ended(2), timeout_s=300)
        send(range(2000, 2000 + ROWS), outcome)
        better = until("the next one took over", lambda: ended(3), timeout_s=300)
        until("it answers all calls", lambda: callers.right["3"].total() > 200)
    producer.flush()
    assert callers.failed == []
    print(worse["reason"], better["reason"], callers.right, sep="\n")

    assert (worse["outcome"], worse["share"]) == ("rolled back", 50)
    assert "with 50 % of the calls: worse: accuracy is" in worse["reason"]
    assert worse["quality"]["candidate"]["high"] < worse["quality"]["champion"]["low"]
    assert worse["quality"]["candidate_rows"] >= 60 <= worse["quality"]["champion_rows"]
    versions = told("get", "versions", "credits")
    refused = next(each for each in versions if each["ordinal"] == 2)
    assert (refused["state"], worse["reason"] in refused["reason"]) == ("refused", True)
    assert "worse: accuracy is" in headrace("trace", worse["version_id"]).stdout
    assert better["outcome"] == "promoted"
    assert "no more lost than chance explains" in better["reason"]

    # What either answered is told apart to the last row.
    ids = {each["version_id"]: str(each["ordinal"]) for each in versions}
    until("all answers are measured", lambda: callers.measured(told("status")["qualities"]["credits"], ids))
    producer.close()
