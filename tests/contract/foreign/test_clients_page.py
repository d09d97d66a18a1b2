"""docs/clients.md: its snippets run as they stand, against a server at another address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "clients.md").read_text()
SHOWN = "127.0.0.1:8001"
SHOWN_REST = "127.0.0.1:8000"


def snippets(language: str, containing: str = "") -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return [text for text in found if containing in text]


def run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_headraces_own_client(server: Any) -> None:
    (snippet,) = snippets("python", "predict_rows")
    said = run([sys.executable, "-c", snippet.replace(SHOWN, server.address)])
    assert said.splitlines() == ["0 0.10000000149011612 1 False", "(3, 10) 1"]


def test_tritons_clients(server: Any, foreign_python: str) -> None:
    blocking, asynchronous, *_ = snippets("python", "tritonclient.grpc")
    assert SHOWN in blocking
    assert SHOWN in asynchronous
    said = run([foreign_python, "-c", blocking.replace(SHOWN, server.address)])
    assert said.startswith("[0 0 0] [[b'0.100000:0:digit 0' b'0.100000:1:digit 1' b'0.100000:2:digit 2']")
    assert run([foreign_python, "-c", asynchronous.replace(SHOWN, server.address)]) == "[0] 1\n"


def test_rest(server: Any, foreign_python: str, tmp_path: Path) -> None:
    (snippet,) = snippets("python", "tritonclient.http")
    assert run([foreign_python, "-c", snippet.replace(SHOWN_REST, server.rest_address)]) == "[0]\n"
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (snippet,) = snippets("sh", "/v2/health/ready")
    said = run(["sh", "-e", "-c", snippet.replace(SHOWN_REST, server.rest_address)], cwd=tmp_path)
    for expected in ('{"ready":true}', '"platform":"onnxruntime_onnx"', "refused\n", '"model_version":"1"'):
        assert expected in said


def test_records(server: Any) -> None:
    (snippet,) = snippets("python", "PredictRecords")
    assert run([sys.executable, "-c", snippet.replace(SHOWN, server.address)]) == "0 type pixels\n"
    (snippet,) = snippets("python", "predict_records")
    assert run([sys.executable, "-c", snippet.replace(SHOWN, server.address)]).startswith("pixels: expected shape")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (snippet,) = snippets("sh", "models/digits/records")
    said = run(["sh", "-e", "-c", snippet.replace(SHOWN_REST, server.rest_address)], cwd=ROOT)
    assert (said.count('"outputs"'), said.count('"rejection"')) == (3, 2)


def test_the_command(server: Any) -> None:
    (snippet,) = snippets("sh", "headrace predict")
    environment = os.environ | {"HEADRACE_INFERENCE_ADDRESS": server.address}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    said = run(["sh", "-e", "-c", snippet], cwd=ROOT, env=environment)
    assert len([line for line in said.splitlines() if "fp32" in line]) == 3


def test_grpcurl(server: Any) -> None:
    if shutil.which("grpcurl") is None:
        pytest.skip("grpcurl is not installed")
    (snippet,) = snippets("sh", "grpcurl -plaintext")
    said = run(["sh", "-e", "-c", snippet.replace(SHOWN, server.address)])
    assert "inference.GRPCInferenceService" in said
    assert '"platform": "onnxruntime_onnx"' in said
    assert '"status": "SERVING"' in said


def test_go(server: Any, tmp_path: Path) -> None:
    """The generator, the module and the program are fetched and built as the page says."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    (program,) = snippets("go")
    (steps,) = snippets("sh", "go mod init")
    (tmp_path / "main.go").write_text(program.replace(SHOWN, server.address))
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    tools = tmp_path / "bin"
    tools.mkdir()
    protoc = tools / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    environment = os.environ | {
        "GOBIN": str(tools),
        # As scripts/helm.py builds: what both need is compiled once, and in two thirds of the time.
        "CGO_ENABLED": "0",
        "GOFLAGS": "-modcacherw -trimpath -gcflags=all=-l",
        "GOGC": "400",
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    proxy = subprocess.run(
        ["go", "list", "-m", "google.golang.org/grpc@v1.76.0"],  # noqa: S607
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if proxy.returncode:
        pytest.skip(f"there is no module proxy here: {proxy.stderr.strip().splitlines()[-1]}")
    assert run(["sh", "-e", "-c", steps], cwd=tmp_path, env=environment) == "label 3 version 1\n"
