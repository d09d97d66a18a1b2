"""Clients of Triton, unmodified and in an environment of their own, call inference as they call Triton."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

pytestmark = pytest.mark.contract

OVER_HTTP = "triton_http.py"
OF_LANGUAGE = "triton_language.py"
FOREIGN = Path(__file__).parents[2] / "foreign"
HEALTH = health_pb2.HealthCheckResponse


@pytest.fixture(scope="module")
def results(server: Any, foreign_python: str, tiny_gguf: Callable[[], bytes]) -> Callable[[str], dict[str, str | None]]:
    """Run a foreign program once against the server; return what came of its checks."""
    known: dict[str, dict[str, str | None]] = {}

    def run(program: str) -> dict[str, str | None]:
        if program not in known:
            if program == OF_LANGUAGE:
                server.release("words", tiny_gguf())
                server.wait_for("words")
            addresses = [server.address] if program != OVER_HTTP else [server.rest_address, server.address]
            command = [foreign_python, str(FOREIGN / program), *addresses]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            known[program] = json.loads(done.stdout.splitlines()[-1])
        return known[program]

    return run


def checks() -> list[Any]:
    """Return program and name of every check."""
    found = [
        (program, name)
        for program in ("triton_unary.py", "triton_aio.py", OVER_HTTP, OF_LANGUAGE, "perf_sequence.py")
        for name in re.findall(r"^(?:async )?def (check_\w+)", (FOREIGN / program).read_text(), re.MULTILINE)
    ]
    return [pytest.param(*each, id=f"{each[0].removesuffix('.py')}-{each[1].removeprefix('check_')}") for each in found]


@pytest.mark.parametrize(("program", "name"), checks())
def test_a_client_of_triton(results: Callable[[str], dict[str, str | None]], program: str, name: str) -> None:
    problem = results(program)[name]
    assert problem is None, problem


def test_perf_analyzer_itself(
    server: Any, sync_foreign: Callable[..., Any], foreign_folder: Path, tmp_path: Path
) -> None:
    program = shutil.which("perf_analyzer")
    if program is None:
        done = sync_foreign("perf-analyzer")
        if done.returncode:
            pytest.skip(f"perf_analyzer cannot be installed here: {done.stderr.strip().splitlines()[0]}")
        program = str(foreign_folder / "bin" / "perf_analyzer")
    report = tmp_path / "report.csv"
    command = [program, "-m", "digits", "-x", "1", "-u", server.address, "-i", "grpc", "-b", "8", "-f", str(report)]
    command += ["--concurrency-range", "2", "--measurement-mode", "count_windows", "--measurement-request-count", "50"]
    command += ["--stability-percentage", "999"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (columns, values) = report.read_text().splitlines()[:2]
    row = dict(zip(columns.split(","), values.split(","), strict=True))
    assert float(row["Inferences/Second"]) > 0
    assert float(row["Server Compute Infer"]) > 0


def test_health_knows_the_server_its_service_and_its_models(server: Any) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService", "model/digits", "model/types"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == HEALTH.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="model/late"), timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="model/late"), timeout=60)
        statuses = (answer.status for answer in watch)
        assert next(statuses) == HEALTH.SERVICE_UNKNOWN
        server.release("late", server.halves())
        assert HEALTH.SERVING in statuses
        server.loader.withdraw(("late", "champion"))
        assert next(statuses) == HEALTH.SERVICE_UNKNOWN
        watch.cancel()
