"""A loaded model of language, whatever engine runs it: a prompt in, an answer out, piece by piece."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from headrace_engines.errors import Unanswerable

STOP: Final = "stop"
LENGTH: Final = "length"
CANCELLED: Final = "cancelled"
Finish = Literal["", "stop", "length", "cancelled"]
"""Why an answer ended: at the model's own end or a stop text, at its most tokens, told to. Empty before the end."""
_MOST_STOPS: Final = 16
_MOST_STOP_CHARACTERS: Final = 256
_LARGEST_SEED: Final = 2**32 - 1
_RANGES: Final = (
    ("max_tokens", 1, 1_000_000),
    ("temperature", 0.0, 2.0),
    ("top_p", 1e-6, 1.0),
    ("top_k", 0, 1_000_000),
    ("frequency_penalty", -2.0, 2.0),
    ("presence_penalty", -2.0, 2.0),
)


@dataclass(frozen=True, slots=True)
class Room:
    """What a generator may take of a machine."""

    cache_bytes: int = 512 * 1024 * 1024
    """Memory for keys and values of all answers together, in bytes; answers wait where there is no more."""
    threads: int = 0
    """Threads that compute; 0 is one for each core of the machine."""
    step_tokens: int = 256
    """Most tokens of one step, prompts' and answers' together: a longer prompt is read in several steps."""
    answers: int = 64
    """Most answers that are made at once; others wait."""
    waiting: int = 256
    """Most answers that wait; more are refused."""
    context: int = 0
    """Most tokens of prompt and answer together, where less than the model's own; 0 for the model's."""
    keeps_prefixes: bool = True
    """Whether what equal beginnings of prompts have in common is computed once. Only one that does not can `score`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant`, or another that the model's chat template knows."""
    content: str
    """Its text."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. The defaults are greedy: always the likeliest one.

    Raises Unanswerable, with every field that is out of its range.
    """

    max_tokens: int
    """Most tokens of the answer. Less where the context of the model ends."""
    temperature: float = 0.0
    """0 to 2; 0 is greedy, and the same answer each time."""
    top_p: float = 1.0
    """Only the likeliest tokens, which together have this probability; 1 for all."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0 for all."""
    seed: int | None = None
    """Makes what is drawn the same each time, 0 to 2^32 - 1. None is another one for each answer."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer, and are no part of it; at most 16, of 256 characters."""
    json_schema: str | None = None
    """JSON schema that the answer follows; None for any text."""
    logprobs: bool = False
    """Whether pieces tell the log-probabilities of their tokens."""
    frequency_penalty: float = 0.0
    """-2 to 2: taken off the logit of a token for each time that it stands in the answer."""
    presence_penalty: float = 0.0
    """-2 to 2: taken off the logit of a token that stands in the answer."""

    def __post_init__(self) -> None:
        """Look at each field."""
        wrong = [
            f"{name}: expected {least} to {most}, got {given}"
            for name, least, most in _RANGES
            # Not the other way round: NaN is out of every range.
            if not least <= (given := getattr(self, name)) <= most
        ]
        if self.seed is not None and not 0 <= self.seed <= _LARGEST_SEED:
            wrong.append(f"seed: expected 0 to {_LARGEST_SEED}, got {self.seed}")
        if len(self.stop) > _MOST_STOPS or not all(0 < len(text) <= _MOST_STOP_CHARACTERS for text in self.stop):
            wrong.append(f"stop: expected at most {_MOST_STOPS} texts of 1 to {_MOST_STOP_CHARACTERS} characters")
        if wrong:
            raise Unanswerable("; ".join(wrong))


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to an answer."""

    text: str
    """Whole characters. Empty where a token is only a part of one, or may be the beginning of a stop text."""
    tokens: tuple[int, ...] = ()
    """The tokens of this step, in the order of the answer, without that of its end. Their text may come with a later
    piece."""
    logprobs: tuple[float, ...] = ()
    """Natural logarithm of each token's probability, as the model has it: before temperature, top_p and top_k. Empty
    unless asked for."""
    finish: Finish = ""
    """Not empty in the last piece of an answer, and only there."""


class Running(Protocol):
    """One answer that is being made."""

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""

    def cancel(self) -> None:
        """End it: the place is free within a step. Its last piece says `cancelled`, unless it has ended before."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What a generator has to do."""

    running: int
    """Answers that are being made."""
    waiting: int
    """Answers that wait for their first step."""
    cache_used: float
    """Share of the memory for keys and values that is in use, 0 to 1."""
    faults: int = 0
    """How often the engine has ended by itself since the model was loaded, and was started anew."""


class Generator(Protocol):
    """A loaded model of language. Safe for use by many threads.

    A method that raises EngineDied may be called again: the engine is started anew. `prompt` and `score` wait for the
    engine; the others do not.
    """

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the prompt for a conversation by the model's chat template, up to where the answer begins.

        Raises Unanswerable where the template cannot make one of these messages, or the model has no template.
        """

    def count(self, text: str) -> int:
        """Return how many tokens a prompt has. Raises Unanswerable for one that is longer than any prompt may be."""

    def start(
        self,
        prompt: str,
        sampling: Sampling,
        on_piece: Callable[[Piece], None],
        on_error: Callable[[Exception], None],
    ) -> Running:
        """Begin an answer.

        `on_piece` is called for each piece, the last with a `finish`; or `on_error` once in the place of the rest, with
        EngineDied, NoMemory or Unanswerable. Both are called in a thread of the generator, one at a time, and must
        return at once; either may be called before this returns.

        Raises Unanswerable for a prompt that leaves no room for an answer and a schema that cannot be followed, Busy
        where too many wait, EngineDied.
        """

    def score(self, prompt: str, answer: str) -> Sequence[float]:
        """Return the log-probability of each token of an answer that follows a prompt, at least one token long.

        The two are made tokens one by one, as they are when an answer is generated. Calls of several threads are
        computed together. Raises as `start` does, and ValueError where the room says `keeps_prefixes`.
        """

    def load(self) -> EngineLoad:
        """Return what it has to do, as of its last step."""

    def close(self) -> None:
        """End the engine. What is being made ends with EngineDied."""
