"""Sound callers of the REST port: one that asks for predictions, and one that reads streams of a model of language.

Started as `python sound.py HOST:PORT`; for each line of standard input, a number of seconds, both call that long, each
on one connection, and what they saw is printed as JSON. Every answer has to be the one of a quiet time.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any

from benchmarks.serving.network import MODEL

WORDS = "words"
PAUSE_S = 0.1
"""Between two answers: what is measured beside them has to have the processor most of the time."""
PIXELS = {"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "data": [0.5] * 64}
STREAM = {"model": WORDS, "prompt": "the river turns", "max_tokens": 32, "stream": True}


class Caller:
    """Calls again and again, and holds each answer to the first."""

    def __init__(self, address: str, ask: Callable[[HTTPConnection], Any]) -> None:
        self._connection = HTTPConnection(address, timeout=10)
        self._ask = ask
        self._expected = ask(self._connection)
        self.answered = 0
        self.wrong: list[str] = []

    def call(self, seconds: float) -> None:
        """Call for some seconds."""
        self.answered, self.wrong = 0, []
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            try:
                found = self._ask(self._connection)
            except (OSError, HTTPException) as error:
                self._connection.close()
                self.wrong.append(repr(error))
            else:
                self.answered += found == self._expected
                if found != self._expected:
                    self.wrong.append(repr(found)[:200])
            time.sleep(PAUSE_S)


def predicted(connection: HTTPConnection) -> Any:
    """Return the status of a prediction, and its numbers."""
    connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [PIXELS]}))
    answer = connection.getresponse()
    told = json.loads(answer.read())
    return answer.status, told.get("outputs", told)


def streamed(connection: HTTPConnection) -> Any:
    """Return the status of a stream, its text and how it ended."""
    connection.request("POST", "/v1/completions", json.dumps(STREAM))
    answer = connection.getresponse()
    *events, end, rest = answer.read().decode().split("\n\n")
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    return answer.status, "".join(each["text"] for each in choices), choices[-1]["finish_reason"], end, rest


def main(address: str) -> None:
    """Call as standard input says."""
    callers = [Caller(address, ask) for ask in (predicted, streamed)]
    for line in sys.stdin:
        threads = [threading.Thread(target=each.call, args=(float(line),)) for each in callers]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        wrong = [told for each in callers for told in each.wrong]
        print(json.dumps({"answered": [each.answered for each in callers], "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
