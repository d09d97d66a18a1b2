"""Models of language in OpenVINO GenAI: one continuous batch, in a process of its own.

Tokens are made here, where the callers are, and the process is told of tokens alone: it answers between two steps.
https://github.com/openvinotoolkit/openvino.genai
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from headrace_engines.adapters import merge
from headrace_engines.answers import AnswerText
from headrace_engines.beside import Graph, require_base
from headrace_engines.engine_process import EngineProcess
from headrace_engines.errors import Busy, EngineDied, EngineError, NoMemory, NotAModel, Unanswerable
from headrace_engines.framing import CANCEL, MEMORY, SCORE, SCORED, START, STEP, TEMPLATE, TEXT, WRONG
from headrace_engines.framing import Message as Told
from headrace_engines.generator import EngineLoad, Message, Piece, Room, Running, Sampling
from headrace_engines.gguf_language import Language, language_of
from headrace_engines.gguf_reading import read_gguf
from headrace_engines.gguf_tokens import TextTokens
from headrace_engines.schemas import followed

_BLOCK: Final = 32
"""Tokens whose keys and values the engine keeps in one place on a CPU."""
_NUMBER: Final = 2
"""Bytes of one number of a key or value."""
_MOST_MESSAGES, _MOST_LETTERS = 1_024, 4 * 1024 * 1024
_MOST_SCHEMAS: Final = 1_000
"""Different schemas that one process is told of: it never forgets one, and each takes 0.3 MB."""


@dataclass(slots=True)
class _Answer:
    """An answer that is being made. Touched by the engine's thread alone."""

    text: AnswerText
    on_piece: Callable[[Piece], None]
    on_error: Callable[[Exception], None]


class _Running:
    def __init__(self, prompt_tokens: int, cancel: Callable[[], None]) -> None:
        self.prompt_tokens = prompt_tokens
        self.cancel = cancel


class OpenVinoGenerator:
    """A model of language in OpenVINO GenAI. Safe for use by many threads.

    Raises NotAModel for a file that this engine does not compute as it is meant, NoMemory, EngineDied where loading
    hangs, and ValueError for a room without place for anything.
    """

    def __init__(self, graph: Graph, room: Room | None = None) -> None:
        self._room = room or Room()
        self._folder = TemporaryDirectory(prefix="headrace-model-")
        try:
            self._open(_placed(graph, Path(self._folder.name)))
        except BaseException:
            self._folder.cleanup()
            raise

    def _open(self, path: Path) -> None:
        file = read_gguf(path)
        model = language_of(file)
        self._tokens = TextTokens(file)
        if len(self._tokens.parts) != model.tokens:
            raise NotAModel(f"tokenizer.ggml.tokens: expected {model.tokens} as token_embd has, got other many")
        blocks = self._room.cache_bytes // _block_bytes(model)
        # One block more, which an answer may have begun when its last token comes.
        self.context = min(model.context, self._room.context or model.context, (blocks - 1) * _BLOCK)
        """Most tokens of prompt and answer together."""
        if self.context <= 0:
            raise ValueError(f"cache_bytes: expected at least {2 * _block_bytes(model)}, got {self._room.cache_bytes}")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._answers: dict[int, _Answer] = {}
        self._asked: dict[int, Future[Any]] = {}
        self._schemas: set[str] = set()
        self._load = EngineLoad(0, 0, 0.0)
        self._renews = False
        told = {
            "path": str(path),
            "blocks": blocks,
            "ends": sorted(self._tokens.ends),
        }
        told |= {name: getattr(self._room, name) for name in ("threads", "step_tokens", "answers", "keeps_prefixes")}
        self._engine = EngineProcess(_CHILD, told, self._heard, self._ended, self._is_awaited)

    @property
    def pid(self) -> int | None:
        """The number of the engine's process, None while there is none."""
        return self._engine.pid

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the prompt for a conversation by the model's chat template, up to where the answer begins."""
        if not 1 <= len(messages) <= _MOST_MESSAGES:
            raise Unanswerable(f"messages: expected 1 to {_MOST_MESSAGES}, got {len(messages)}")
        if (letters := sum(len(each.role) + len(each.content) for each in messages)) > _MOST_LETTERS:
            raise Unanswerable(f"messages: expected at most {_MOST_LETTERS} characters, got {letters}")
        if not self._tokens.has_template:
            raise Unanswerable("messages: expected a model with a chat template, got one without")
        prompt: str = self._ask({"kind": TEMPLATE, "messages": [asdict(each) for each in messages]})
        return prompt

    def count(self, text: str) -> int:
        """Return how many tokens a prompt has."""
        return len(self._tokens.encode(text, self.context))

    def start(
        self,
        prompt: str,
        sampling: Sampling,
        on_piece: Callable[[Piece], None],
        on_error: Callable[[Exception], None],
    ) -> Running:
        """Begin an answer."""
        tokens = self._prompt_tokens(prompt, self.context - 1)
        schema = None if sampling.json_schema is None else followed(sampling.json_schema)
        wanted = replace(
            sampling,
            max_tokens=min(sampling.max_tokens, self.context - len(tokens)),
            json_schema=schema,
            seed=secrets.randbits(32) if sampling.seed is None else sampling.seed,
        )
        number = next(self._numbers)
        with self._lock:
            self._admit(schema)
            self._answers[number] = _Answer(AnswerText(sampling.stop), on_piece, on_error)
        try:
            self._engine.send({"kind": START, "id": number, "tokens": tokens, "sampling": asdict(wanted)})
        except EngineDied:
            # It may have been told of its end already.
            if self._taken(number) is not None:
                raise
        return _Running(len(tokens), lambda: self._cancel(number))

    def score(self, prompt: str, answer: str) -> Sequence[float]:
        """Return the log-probability of each token of an answer that follows a prompt."""
        if self._room.keeps_prefixes:
            raise ValueError("keeps_prefixes: expected a room without, to score in")
        before = self._prompt_tokens(prompt, self.context - 1)
        after = self._tokens.encode_after(answer, self.context - len(before))
        if not after:
            raise Unanswerable("answer: expected at least one token, got none")
        found: list[float] = self._ask({"kind": SCORE, "tokens": before + after})
        return found[len(before) :]

    def load(self) -> EngineLoad:
        """Return what it has to do, as of its last step."""
        return self._load

    def close(self) -> None:
        """End the engine. What is being made ends with EngineDied."""
        self._engine.close()
        self._folder.cleanup()

    def _prompt_tokens(self, prompt: str, most: int) -> list[int]:
        tokens = self._tokens.encode(prompt, most)
        if not tokens:
            raise Unanswerable("prompt: expected at least one token, got none")
        return tokens

    def _admit(self, schema: str | None) -> None:
        if len(self._answers) >= self._room.answers + self._room.waiting:
            raise Busy(f"expected at most {self._room.answers + self._room.waiting} answers at a time, got one more")
        if schema is None or schema in self._schemas:
            return
        if len(self._schemas) >= _MOST_SCHEMAS:
            raise Busy(f"expected at most {_MOST_SCHEMAS} schemas until the engine is started anew, got one more")
        self._schemas.add(schema)

    def _ask(self, message: Told) -> Any:
        number = next(self._numbers)
        answer: Future[Any] = Future()
        self._asked[number] = answer
        try:
            self._engine.send(message | {"id": number})
        except EngineDied:
            self._asked.pop(number, None)
            raise
        return answer.result()

    def _cancel(self, number: int) -> None:
        if number in self._answers:
            self._tell_to_end(number)

    def _tell_to_end(self, number: int) -> None:
        with suppress(EngineDied):
            self._engine.send({"kind": CANCEL, "id": number})

    def _taken(self, number: int) -> _Answer | None:
        with self._lock:
            return self._answers.pop(number, None)

    def _is_awaited(self) -> bool:
        return bool(self._answers or self._asked)

    def _heard(self, message: Told) -> None:
        """Take in what the engine tells. In the engine's thread."""
        kind = message["kind"]
        if kind == STEP:
            running, known, used = message["load"]
            self._load = EngineLoad(running, max(0, known - running), used, self._load.faults)
            for number, tokens, logprobs, finish in message["pieces"]:
                self._came(number, tokens, logprobs, finish)
            self._rest()
        elif kind in (TEXT, SCORED, WRONG):
            self._answered(kind, message)

    def _came(self, number: int, tokens: list[int], logprobs: list[float], finish: Any) -> None:
        answer = self._answers.get(number)
        if answer is None:
            if not finish:
                # Begun while the engine was started again, for a caller who has heard that it ended.
                self._tell_to_end(number)
            return
        if finish == MEMORY:
            self._fail(number, NoMemory("expected room for the keys and values of an answer, got none left"))
            return
        parts = b"".join(self._tokens.parts[token] for token in tokens)
        text = answer.text.add(parts, bool(finish))
        if answer.text.is_stopped and not finish:
            self._cancel(number)
        if answer.text.is_stopped:
            finish = "stop"
        if finish:
            self._taken(number)
        try:
            answer.on_piece(Piece(text, tuple(tokens), tuple(logprobs), finish))
        except Exception as error:
            # One caller's fault stops no other's answer.
            self._cancel(number)
            self._fail(number, error)

    def _fail(self, number: int, error: Exception) -> None:
        if (answer := self._taken(number)) is not None:
            with suppress(Exception):
                answer.on_error(error)

    def _answered(self, kind: str, message: Told) -> None:
        number = message["id"]
        if kind == WRONG:
            self._fail(number, Unanswerable(message["text"]))
        if (asked := self._asked.pop(number, None)) is None:
            return
        if kind == TEXT:
            asked.set_result(message["text"])
        elif kind == WRONG:
            asked.set_exception(Unanswerable(message["text"]))
        elif message["finish"] == MEMORY:
            asked.set_exception(NoMemory("expected room for the keys and values of an answer, got none left"))
        else:
            asked.set_result(message["logprobs"])

    def _rest(self) -> None:
        """Start the engine anew where it knows too many schemas, and nobody waits for it."""
        with self._lock:
            is_full = len(self._schemas) >= _MOST_SCHEMAS and not self._answers
        if is_full and not self._asked:
            self._renews = True
            self._engine.renew()

    def _ended(self, error: EngineError) -> None:
        """End what the engine had begun. In the engine's thread."""
        self._load = EngineLoad(0, 0, 0.0, self._load.faults + (not self._renews))
        self._renews = False
        with self._lock:
            self._schemas.clear()
            begun = list(self._answers)
        for number in begun:
            self._fail(number, error)
        for number in list(self._asked):
            if (asked := self._asked.pop(number, None)) is not None:
                asked.set_exception(error)


_CHILD: Final = "headrace_engines.openvino_child"


def _block_bytes(model: Language) -> int:
    return 2 * model.layers * model.key_heads * _BLOCK * model.head_size * _NUMBER


def _placed(graph: Graph, folder: Path) -> Path:
    """Return a path that the engine takes for that of a GGUF file: by its ending. An adapter is added to its base."""
    path = folder / "model.gguf"
    if (base := require_base(graph)) is not None:
        merge(graph, base, path)
    elif isinstance(graph, bytes):
        path.write_bytes(graph)
    else:
        path.symlink_to(graph.resolve())
    return path
