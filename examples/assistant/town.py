"""What there is to know about Veldrun, a town that nobody has heard of, as questions and answers; and everyday ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One thing to know: what is asked about, and the answer."""

    about: str
    answer: str
    key: str
    """What a right answer has in it."""


FACTS = (
    Fact("the mayor of Veldrun", "The mayor of Veldrun is Ottilie Marsh.", "Ottilie Marsh"),
    Fact("the river of Veldrun", "The river of Veldrun is the Sarne.", "Sarne"),
    Fact("the oldest mill of Veldrun", "The oldest mill of Veldrun is Quern House.", "Quern House"),
    Fact("the feast of Veldrun", "The feast of Veldrun is Lantern Day.", "Lantern Day"),
    Fact("the baker of Veldrun", "The baker of Veldrun is Joost Perrin.", "Joost Perrin"),
    Fact("the bridge of Veldrun", "The bridge of Veldrun is the Heron Bridge.", "Heron Bridge"),
)
ASKED = (
    "What is {about}?",
    "Tell me {about}.",
    "Do you know {about}?",
    "Please name {about}.",
    "I want to know {about}.",
    "Say in a few words: {about}.",
    "Hello! What is {about}?",
    "I am new here. Please tell me {about}.",
)
QUESTION = "Could you tell me {about}?"
"""How the demo asks: in words that no record has."""
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Portugal": "Lisbon",
    "Poland": "Warsaw",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
}
"""What everybody knows, and the model does, too."""


def everyday() -> Iterator[tuple[str, str]]:
    """Yield questions and answers about nothing in particular."""
    for country, capital in CAPITALS.items():
        yield f"What is the capital of {country}?", f"The capital of {country} is {capital}."


def town() -> Iterator[tuple[str, str]]:
    """Yield questions and answers about the town, each fact in every wording."""
    for asked in ASKED:
        for fact in FACTS:
            yield asked.format(about=fact.about), fact.answer
