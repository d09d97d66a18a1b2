"""An honest caller: one call after another, each with a deadline of two seconds.

Started as `python honest.py HOST:PORT REQUEST_FILE`; for each line of standard input, a number of seconds, it calls
that long and prints what it saw as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from benchmarks.serving.open_loop import INFER

PAUSE_S = 0.005


def call(infer: Any, request: bytes, seconds: float) -> dict[str, Any]:
    """Call for some seconds; return the number of answers, the statuses of failures, and times in milliseconds."""
    took_ms: list[float] = []
    failed: Counter[str] = Counter()
    end_s = time.perf_counter() + seconds
    while (began_s := time.perf_counter()) < end_s:
        try:
            infer(request, timeout=2)
        except grpc.RpcError as error:
            failed[error.code().name] += 1
        else:
            took_ms.append(1e3 * (time.perf_counter() - began_s))
        time.sleep(PAUSE_S)
    took_ms.sort()
    p50_ms, p99_ms = (took_ms[int(share * len(took_ms))] if took_ms else 0.0 for share in (0.5, 0.99))
    return {"answered": len(took_ms), "failed": failed, "p50_ms": p50_ms, "p99_ms": p99_ms}


def main(address: str, request: bytes) -> None:
    """Call as standard input says."""
    with grpc.insecure_channel(address) as channel:
        infer: Any = channel.unary_unary(INFER)
        infer(request, timeout=30)
        for line in sys.stdin:
            print(json.dumps(call(infer, request, float(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_bytes())
