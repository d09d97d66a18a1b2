"""A run in pods of its own is followed from its making to its deletion, over a real connection."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, REFUSED, Progress
from headrace_runtime.runs.folder import output_prefix
from headrace_runtime.runs.relay import Ended, Telling
from headrace_trainer.adapters import pods
from headrace_trainer.adapters.api_server import ApiRefused, ApiUnreachable, JobSetApi
from headrace_trainer.adapters.pods import PodMaker, Pods
from headrace_trainer.core.pods import Template

from .api_stand_in import Cluster, serving

OUTPUT = output_prefix("run-1", 2)
TEMPLATE = Template("trainer-run", {"spec": {"containers": [{"name": "training"}]}})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path) -> Iterator[JobSetApi]:
    (account := tmp_path / "account").mkdir()
    with serving(cluster, account) as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


@pytest.fixture
def begin(
    api: JobSetApi, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Pods]]:
    """Begins the second attempt at a run."""
    monkeypatch.setattr(pods, "POLL_S", 0.02)
    begun: list[Pods] = []

    def begin(patience_s: float = 60, attempt: int = 2) -> Pods:
        told = {
            "run_id": "run-1",
            "attempt": attempt,
            "output": output_prefix("run-1", attempt),
            "group": {"pods": 2, "processes": 1},
            "pipeline": "p",
        }
        (file := tmp_path / "assignment.json").write_text(json.dumps(told))
        found = PodMaker(api, store, TEMPLATE, patience_s).begin(file)
        assert found is not None
        begun.append(found)
        return found

    yield begin
    for each in begun:
        each.stop()


def until(condition: Callable[[], Any]) -> Any:
    ends_s = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < ends_s
        time.sleep(0.01)
    return found


def held(cluster: Cluster) -> dict[str, Any]:
    (name,) = until(lambda: list(cluster.sets))
    return cluster.sets[name]


def test_what_the_run_says_is_passed_on_and_its_end_deletes_it(
    begin: Callable[..., Pods], cluster: Cluster, store: ObjectStore
) -> None:
    child, line = begin(), Progress(1, 4, {"loss": 0.5}, 2.0)
    held(cluster)
    telling = Telling(store, OUTPUT)
    telling.tell([line])
    assert until(lambda: list(child.lines())) == [line]
    assert not child.ended
    telling.tell([], Ended(REFUSED, "write a smaller network"))
    until(lambda: child.ended)
    assert (child.code, child.reason) == (REFUSED, "write a smaller network")
    assert cluster.sets == {}


def test_an_earlier_attempt_goes_before_another_is_made(begin: Callable[..., Pods], cluster: Cluster) -> None:
    earlier = begin(attempt=1)
    first = held(cluster)["metadata"]["name"]
    begin()
    until(lambda: list(cluster.sets) not in ([], [first]))
    (second,) = cluster.sets
    assert cluster.asked.index(f"DELETE {first}") < len(cluster.asked) - 1 - cluster.asked[::-1].index("POST")
    assert second.endswith("-2")
    until(lambda: earlier.ended)
    assert "was deleted by somebody else" in earlier.reason


def test_a_worker_that_stops_deletes_it(begin: Callable[..., Pods], cluster: Cluster) -> None:
    child = begin()
    held(cluster)
    child.stop()
    assert cluster.sets == {}
    assert child.ended
    assert child.code == ABANDONED


def test_a_deletion_is_tried_again(begin: Callable[..., Pods], cluster: Cluster) -> None:
    child = begin()
    held(cluster)
    cluster.busy_deletions = 3
    child.stop()
    assert (cluster.sets, child.ended) == ({}, True)


def test_a_refusal_is_waited_out_until_patience_ends(begin: Callable[..., Pods], cluster: Cluster) -> None:
    cluster.refusals = [(403, "exceeded quota: gpus")] * 3
    child = begin()
    held(cluster)
    child.stop()
    cluster.refusals = [(403, "exceeded quota: gpus")] * 3
    child = begin(patience_s=0)
    until(lambda: child.ended)
    assert child.code == FAILED
    assert child.reason == "Kubernetes refused to make a JobSet: exceeded quota: gpus (403)"
    assert cluster.sets == {}


def test_one_that_was_made_without_an_answer_is_followed(
    begin: Callable[..., Pods], cluster: Cluster, store: ObjectStore
) -> None:
    cluster.answers_lost = 1
    child = begin()
    until(lambda: cluster.asked.count("POST") == 2)
    Telling(store, OUTPUT).tell([], Ended(DONE, ""))
    until(lambda: child.ended)
    assert (child.code, cluster.asked.count("POST")) == (DONE, 2)


def test_an_object_that_is_never_taken_ends_the_run(begin: Callable[..., Pods], cluster: Cluster) -> None:
    cluster.refusals = [(422, 'JobSet is invalid: spec.image: Required "value"')]
    child = begin()
    until(lambda: child.ended)
    assert (child.code, cluster.asked.count("POST")) == (REFUSED, 1)


def test_pods_that_do_not_become_ready_end_the_attempt(begin: Callable[..., Pods], cluster: Cluster) -> None:
    child = begin(patience_s=0.2)
    until(lambda: child.ended)
    assert child.code == FAILED
    assert "are not all ready" in child.reason
    child = begin(patience_s=0.3)
    held(cluster)["status"] = {"replicatedJobsStatus": [{"ready": 1}]}
    seen = len(cluster.asked)
    until(lambda: len(cluster.asked) > seen + 8)
    assert not child.ended


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("Failed", FAILED, r"JobSet trainer-run-\w+-2 failed: a pod was evicted"), ("Completed", DONE, r"no reason")],
)
def test_pods_that_end_without_a_word(
    begin: Callable[..., Pods], cluster: Cluster, kind: str, code: int, reason: str
) -> None:
    child = begin()
    held(cluster)["status"] = {"conditions": [{"type": kind, "status": "True", "message": "a pod was evicted"}]}
    until(lambda: child.ended)
    assert child.code == code
    assert re.search(reason, child.reason)


def test_a_cluster_without_jobset_says_so(api: JobSetApi, tmp_path: Path) -> None:
    (tmp_path / "account" / "namespace").write_text("another")
    with pytest.raises(ApiRefused, match=r"list JobSets: .* it does not know jobset\.x-k8s\.io/v1alpha2: install it"):
        api.named({"a": "b"})


def test_what_others_delete_has_failed(begin: Callable[..., Pods], cluster: Cluster) -> None:
    child = begin()
    held(cluster)
    cluster.sets.clear()
    until(lambda: child.ended)
    assert (child.code, child.reason.endswith("was deleted by somebody else")) == (FAILED, True)


def test_a_client_says_who_does_not_answer(api: JobSetApi, cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "account" / "token").write_text("another")
    with pytest.raises(ApiRefused, match=r"refused to list JobSets: Unauthorized \(401\)"):
        api.named({"a": "b"})
    with pytest.raises(ApiUnreachable, match=r"Kubernetes at 127\.0\.0\.1:1 does not answer"):
        JobSetApi(("127.0.0.1", 1), tmp_path / "account").get("a")
    (tmp_path / "account" / "token").unlink()
    with pytest.raises(ApiUnreachable, match=r"token"):
        api.get("a")
