"""Callers that stream answers one after another, keep count, and show what they read."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from headrace_client import InferenceClient, Turn
from headrace_client.errors import HeadraceClientError

MOST_TOKENS = 24
PAUSE_S = 4.0
"""What a caller needs to read an answer. They share the machine with what learns."""


@dataclass
class Answer:
    """One answer as its caller sees it, whole or not yet."""

    question: str
    text: str = ""
    version: str = ""
    variant: str = ""
    tokens: int = 0
    first_s: float = 0.0
    """Seconds until its first text."""
    took_s: float = 0.0
    prediction_id: str = ""
    failure: str = ""

    @property
    def rate(self) -> float:
        """Tokens a second behind the first."""
        return max(0, self.tokens - 1) / max(1e-9, self.took_s - self.first_s)


def ask(client: InferenceClient, model: str, question: str, answer: Answer | None = None) -> Answer:
    """Stream an answer into `answer`. What fails is told there."""
    answer = answer or Answer(question)
    began = time.perf_counter()
    try:
        for part in client.converse(model, [Turn("user", question)], max_tokens=MOST_TOKENS):
            answer.took_s = time.perf_counter() - began
            if part.text and not answer.text:
                answer.first_s = answer.took_s
            answer.text += part.text
            answer.tokens += part.tokens
            answer.version, answer.variant, answer.prediction_id = part.version, part.variant, part.prediction_id
    except HeadraceClientError as error:
        answer.failure = str(error)
    return answer


class Callers:
    """Callers, one thread each, that ask the questions in turn until they are told to stop."""

    def __init__(self, address: str, model: str, questions: Sequence[str], count: int = 2) -> None:
        self.now: list[Answer | None] = [None] * count
        """What each of them reads."""
        self.answers: list[Answer] = []
        """What ended."""
        self._stopping = threading.Event()
        self._asked = (address, model, questions)
        self._threads = [threading.Thread(target=self._run, args=(place,), daemon=True) for place in range(count)]

    def start(self) -> None:
        """Start asking."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every caller read to the end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[str]:
        """Why calls failed."""
        return [answer.failure for answer in tuple(self.answers) if answer.failure]

    def versions(self) -> Counter[str]:
        """Return how many answers each version gave."""
        return Counter(answer.version for answer in tuple(self.answers) if not answer.failure)

    def figures(self) -> dict[str, str]:
        """Return what the last answers tell of the service."""
        recent = [answer for answer in self.answers[-8:] if not answer.failure]
        if not recent:
            return {}
        return {
            "version": f"{recent[-1].version} ({recent[-1].variant})",
            "first token": f"{np.median([answer.first_s for answer in recent]) * 1000:.0f} ms",
            "tokens/s of a caller": f"{np.median([answer.rate for answer in recent]):.0f}",
            "answers": str(len(self.answers)),
            "failed": str(len(self.failed)),
        }

    def _run(self, place: int) -> None:
        address, model, questions = self._asked
        with InferenceClient(address, timeout_s=120.0) as client:
            for turn in itertools.count(place):
                if self._stopping.is_set():
                    return
                answer = self.now[place] = Answer(questions[turn % len(questions)])
                self.answers.append(ask(client, model, answer.question, answer))
                self._stopping.wait(PAUSE_S)
