"""`python -m headrace_runtime.health_check TARGET…` asks services how they are: what `helm test` runs.

A target is `grpc://host:port`, asked by the gRPC health protocol whether it is ready, or `http://host:port/path`, which
must answer 200. Every address that a host name has is asked. Ends with 1 when one of them is not well.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

ANSWER_S = 5.0
AGAIN_S = 1.0


def problems(target: SplitResult) -> Iterator[str]:
    """Yield what is wrong with each address of a target; nothing when all of them are well."""
    place = f"{target.hostname}:{target.port}"
    try:
        found = socket.getaddrinfo(target.hostname, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield f"{place}: no address, so no pod is ready ({error.strerror})"
        return
    for address in sorted({str(item[4][0]) for item in found}):
        host = f"[{address}]:{target.port}" if ":" in address else f"{address}:{target.port}"
        if problem := _grpc(host) if target.scheme == "grpc" else _http(f"http://{host}{target.path}"):
            yield f"{place}: {address}: {problem}"


def _grpc(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        except grpc.RpcError as error:
            return f"expected SERVING, got {error.code().name}: {error.details()}"
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if status == "SERVING" else f"expected SERVING, got {status}"


def _http(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:  # noqa: S310 - http, as parsed
            return "" if answer.status == 200 else f"expected 200, got {answer.status}"
    except (urllib.error.URLError, OSError) as error:
        return f"expected 200, got {error}"


def parse(text: str) -> SplitResult:
    """Return a target. Raises ArgumentTypeError for anything else."""
    target = urlsplit(text)
    try:
        complete = target.scheme in {"grpc", "http"} and bool(target.hostname and target.port)
    except ValueError:
        complete = False
    if not complete:
        raise argparse.ArgumentTypeError(f"expected grpc://HOST:PORT or http://HOST:PORT/PATH, got {text!r}")
    return target


def main() -> int:
    """Ask every target; print how each is and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m headrace_runtime.health_check", description=__doc__)
    parser.add_argument("targets", nargs="+", type=parse, metavar="TARGET", help="what to ask")
    parser.add_argument(
        "--within", type=float, default=0.0, metavar="S", help="seconds to go on asking what is not well"
    )
    arguments = parser.parse_args()
    deadline_s = time.monotonic() + arguments.within
    failed = 0
    for target in arguments.targets:
        while (found := list(problems(target))) and time.monotonic() < deadline_s:
            time.sleep(AGAIN_S)
        failed += bool(found)
        print("\n".join(found) or f"{target.hostname}:{target.port}: well", flush=True)  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
