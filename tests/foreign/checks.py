"""Runs every `check_*` of a program and prints what came of each as JSON: null, or the traceback."""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any


def run(namespace: Mapping[str, Any], call: Callable[[Callable[..., Any], str], Any]) -> None:
    """Hand each check and the server's address to `call`."""
    results: dict[str, str | None] = {}
    for name, check in list(namespace.items()):
        if name.startswith("check_") and inspect.isfunction(check):
            try:
                call(check, sys.argv[1])
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
    print(json.dumps(results))


@contextmanager
def refused(status: str, *words: str) -> Any:
    """Expect a call to fail with a status, and to say why."""
    import grpc
    from tritonclient.utils import InferenceServerException

    found, said = "OK", "it was answered"
    try:
        yield
    except InferenceServerException as error:
        found, said = error.status().removeprefix("StatusCode."), error.message()
    except grpc.RpcError as error:
        found, said = error.code().name, error.details() or ""
    assert found == status, said
    assert all(word in said for word in words), said
