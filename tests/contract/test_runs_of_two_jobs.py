"""A worker of two jobs, on a real broker: each command ends in the fact of its own job."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace.events.v1 import evaluation_pb2, model_pb2, run_pb2
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.runs.worker import Job
from headrace_runtime.topics import MODEL_EVALUATED, MODEL_TRAINED, RUN_FAILED

from .test_run_worker import begin_at_the_end, command, facts, request, send, worker
from .test_run_worker import settings as settings

if TYPE_CHECKING:
    from headrace_runtime.settings import WorkerSettings

pytestmark = pytest.mark.contract

EVALUATIONS = Job(
    evaluation_pb2.EvaluationRequested,
    run_pb2.RUN_KIND_EVALUATION,
    "worker_child",
    lambda command: json.loads(command.spec.json),
    lambda command, result: evaluation_pb2.ModelEvaluated(
        run_id=command.run_id, version_id=result["version"], attempt=result["attempt"]
    ),
)


def test_a_worker_of_two_jobs_ends_each_command_in_the_fact_of_its_own_job(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None]
) -> None:
    def evaluation(behaviour: str) -> str:
        asked = request(behaviour, flag)
        message = evaluation_pb2.EvaluationRequested(run_id=asked.run_id, pipeline="p", spec=asked.spec)
        send(settings, encode(message, source="test"))
        return asked.run_id

    begin_at_the_end(settings.kafka_bootstrap_servers, group := f"two-jobs-{uuid.uuid4()}")
    flag = tmp_path / "hangs"
    stopped = evaluation("hang once")
    with worker(settings, group, EVALUATIONS):
        until(flag.exists)
    trained, refused = command(settings, "fine"), evaluation("refuse")
    with worker(settings, group, EVALUATIONS):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, trained))
        until(lambda: facts(settings, RUN_FAILED.name, run_pb2.RunFailed, refused))
        until(lambda: facts(settings, MODEL_EVALUATED.name, evaluation_pb2.ModelEvaluated, stopped))
    (evaluated,) = facts(settings, MODEL_EVALUATED.name, evaluation_pb2.ModelEvaluated, stopped)
    assert evaluated.attempt == 2
    (failed,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, refused)
    assert failed.kind == run_pb2.RUN_KIND_EVALUATION
