from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace_runtime import health_check


@pytest.fixture
def server() -> Iterator[tuple[health.HealthServicer, int]]:
    server, servicer = grpc.server(futures.ThreadPoolExecutor(2)), health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


@pytest.fixture
def metrics() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def check(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["health_check", *arguments])
    return health_check.main()


def test_what_is_well_is_called_well(
    server: tuple[health.HealthServicer, int],
    metrics: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, port = server
    assert check(monkeypatch, f"grpc://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}/metrics") == 0
    assert capsys.readouterr().out == f"127.0.0.1:{port}: well\n127.0.0.1:{metrics}: well\n"


def test_what_is_not_well_is_named_and_does_not_hide_the_rest(
    server: tuple[health.HealthServicer, int],
    metrics: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    servicer, port = server
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    wrong = [f"grpc://127.0.0.1:{port}", "http://nowhere.invalid:1/metrics", f"http://127.0.0.1:{metrics}/elsewhere"]
    assert check(monkeypatch, *wrong, f"http://127.0.0.1:{metrics}/metrics") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"127.0.0.1:{port}: 127.0.0.1: expected SERVING, got NOT_SERVING"
    assert said[1].startswith("nowhere.invalid:1: no address, so no pod is ready")
    assert "expected 200, got HTTP Error 404" in said[2]
    assert said[3] == f"127.0.0.1:{metrics}: well"


def test_what_becomes_well_in_time_is_waited_for(
    server: tuple[health.HealthServicer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer, port = server
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    asked = threading.Event()
    monkeypatch.setattr(health_check, "AGAIN_S", 0.01)
    first = health_check._grpc

    def counted(address: str) -> str:
        found = first(address)
        if not asked.is_set():
            asked.set()
            servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        return found

    monkeypatch.setattr(health_check, "_grpc", counted)
    assert check(monkeypatch, "--within", "60", f"grpc://127.0.0.1:{port}") == 0
    assert asked.is_set()


@pytest.mark.parametrize("target", ["host:1", "ftp://host:1", "grpc://host", "http://host:x/metrics"])
def test_a_target_that_is_none_is_refused(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        check(monkeypatch, target)
    assert "expected grpc://HOST:PORT or http://HOST:PORT/PATH" in capsys.readouterr().err
