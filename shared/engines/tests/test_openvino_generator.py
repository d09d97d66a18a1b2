"""Models of language in the engine's own process: what they answer, and what becomes of answers when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headrace_engines import GENERATORS, GGUF, engine_process, openvino_generator
from headrace_engines.engine_process import EngineProcess
from headrace_engines.errors import Busy, EngineDied, NotAModel, Unanswerable
from headrace_engines.generator import Message, Piece, Room, Running, Sampling
from headrace_engines.openvino_generator import OpenVinoGenerator

pytestmark = pytest.mark.slow

Write = Callable[..., bytes]
PROMPT = "the river turns the wheel"
ROOM = Room(cache_bytes=4 * 1024 * 1024, threads=1, step_tokens=32, answers=3, waiting=4)
CONTEXT = 4096
LONG = Sampling(
    4000,
    json_schema='{"type": "array", "items": {"enum": ["all day long the river turns a wheel"]}, "minItems": 100}',
)
"""Of an answer that is being made for as long as a test needs it, however busy the machine is."""
LIMIT_S = 60.0


class Heard:
    """What a caller hears of one answer."""

    def __init__(self, on_piece: Callable[[Piece], None] | None = None) -> None:
        self.pieces: list[Piece] = []
        self.error: Exception | None = None
        self.ended, self.begun = threading.Event(), threading.Event()
        self._on_piece = on_piece

    def piece(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.begun.set()
        if piece.finish:
            self.ended.set()
        if self._on_piece:
            self._on_piece(piece)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def logprobs(self) -> list[float]:
        return [logprob for piece in self.pieces for logprob in piece.logprobs]


def begun(generator: OpenVinoGenerator, sampling: Sampling, prompt: str = PROMPT) -> tuple[Heard, Running]:
    heard = Heard()
    return heard, generator.start(prompt, sampling, heard.piece, heard.fail)


def answered(generator: OpenVinoGenerator, sampling: Sampling, prompt: str = PROMPT) -> Heard:
    heard, _ = begun(generator, sampling, prompt)
    assert heard.ended.wait(LIMIT_S)
    assert heard.error is None
    return heard


def eventually(is_so: Callable[[], bool]) -> bool:
    """Wait on a condition that nothing tells of."""
    ends = time.monotonic() + LIMIT_S
    while not is_so() and time.monotonic() < ends:
        threading.Event().wait(0.01)
    return is_so()


@pytest.fixture(scope="module")
def generator(tiny_gguf: Write) -> Iterator[OpenVinoGenerator]:
    made = GENERATORS[GGUF](tiny_gguf(**{"llama.context_length": CONTEXT}), ROOM)
    assert isinstance(made, OpenVinoGenerator)
    yield made
    made.close()


def test_an_answer_is_the_same_alone_and_beside_others(generator: OpenVinoGenerator) -> None:
    alone = answered(generator, Sampling(24, logprobs=True))
    assert len(alone.tokens) == len(alone.logprobs) == 24
    assert alone.pieces[-1].finish == "length"
    assert all(logprob < 0 for logprob in alone.logprobs)
    others = [begun(generator, Sampling(40), prompt)[0] for prompt in ("mill", "who turns " * 20, "é")]
    beside = answered(generator, Sampling(24, logprobs=True))
    assert (beside.tokens, beside.text) == (alone.tokens, alone.text)
    assert all(other.ended.wait(LIMIT_S) and other.pieces[-1].finish for other in others)
    assert generator.load().running == 0


def test_what_is_drawn_is_the_same_for_a_seed_and_another_without(generator: OpenVinoGenerator) -> None:
    drawn = [answered(generator, Sampling(16, temperature=1.0, seed=seed)).tokens for seed in (1, 1, 2, None, None)]
    assert drawn[0] == drawn[1]
    assert len({tuple(tokens) for tokens in drawn}) == 4
    assert (
        answered(generator, Sampling(16, temperature=2.0, top_k=1)).tokens == answered(generator, Sampling(16)).tokens
    )
    assert answered(generator, Sampling(16, presence_penalty=2.0)).tokens != answered(generator, Sampling(16)).tokens


def test_an_answer_ends_before_a_stop_text_that_comes_in_several_tokens(generator: OpenVinoGenerator) -> None:
    whole = answered(generator, Sampling(24))
    place = len(whole.text) // 2
    stop = whole.text[place : place + 3]
    heard = answered(generator, Sampling(24, stop=(stop, "never said")))
    assert heard.text == whole.text[: whole.text.index(stop)]
    assert heard.pieces[-1].finish == "stop"


def test_an_answer_that_is_cancelled_gives_its_place_to_one_that_waits(generator: OpenVinoGenerator) -> None:
    long = [begun(generator, LONG) for _ in range(ROOM.answers)]
    assert all(heard.begun.wait(LIMIT_S) for heard, _ in long)
    waiting, last = begun(generator, Sampling(4))
    never, refused = begun(generator, Sampling(4))
    before = len(long[0][0].pieces)
    assert eventually(lambda: len(long[0][0].pieces) > before + 2)
    assert not waiting.pieces
    assert (generator.load().running, generator.load().waiting) == (ROOM.answers, 2)
    refused.cancel()
    long[1][1].cancel()
    assert waiting.ended.wait(LIMIT_S)
    assert not long[0][0].ended.is_set()
    assert long[1][0].pieces[-1].finish == "cancelled"
    assert never.ended.wait(LIMIT_S)
    assert [piece.finish for piece in never.pieces] == ["cancelled"]
    for heard, running in long:
        running.cancel()
        assert heard.ended.wait(LIMIT_S)
    last.cancel()  # which has ended
    assert waiting.pieces[-1].finish == "length"


def test_more_than_may_wait_are_refused(generator: OpenVinoGenerator) -> None:
    many = [begun(generator, LONG) for _ in range(ROOM.answers + ROOM.waiting)]
    with pytest.raises(Busy):
        begun(generator, Sampling(1))
    for heard, running in many:
        running.cancel()
        assert heard.ended.wait(LIMIT_S)


def test_an_answer_follows_a_schema_and_a_schema_that_none_can_follow_harms_nobody(
    generator: OpenVinoGenerator,
) -> None:
    other, running = begun(generator, LONG)
    for wrong in ("{", '{"type": "text"}', '{"pattern": "(a+)+"}', '{"$ref": "#"}'):
        with pytest.raises(Unanswerable, match="schema"):
            begun(generator, Sampling(8, json_schema=wrong))
    heard = answered(generator, Sampling(30, json_schema='{"enum": ["river", "mill"]}'))
    assert heard.text in ('"river"', '"mill"')
    assert heard.pieces[-1].finish == "stop"
    assert other.error is None
    running.cancel()
    assert other.ended.wait(LIMIT_S)


def test_a_conversation_becomes_a_prompt_by_the_models_template(generator: OpenVinoGenerator, tiny_gguf: Write) -> None:
    prompt = generator.prompt([Message("system", "be brief"), Message("user", "the mill é?")])
    assert prompt == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nthe mill é?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answered(generator, Sampling(2), prompt).tokens
    with pytest.raises(Unanswerable, match="messages"):
        generator.prompt([])


def test_what_prompts_begin_with_is_read_once(generator: OpenVinoGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    heard = generator._engine._on_message

    def hear(message: dict[str, Any]) -> None:
        told.append(message)
        heard(message)

    monkeypatch.setattr(generator._engine, "_on_message", hear)

    def steps(prompt: str) -> int:
        before = len(told)
        answered(generator, Sampling(1), prompt)
        return len(told) - before

    prefix = "all day long the wheel turns, " * 30
    reads = generator.count(prefix) / ROOM.step_tokens
    assert reads > 5
    assert steps(f"{prefix} who?") >= reads
    assert steps(f"{prefix} when?") <= 2
    assert steps(f"never {prefix}") >= reads


def test_a_prompt_that_leaves_no_room_is_refused_and_an_answer_ends_with_the_context(
    generator: OpenVinoGenerator,
) -> None:
    assert generator.context == CONTEXT
    with pytest.raises(Unanswerable, match=f"at most {CONTEXT - 1} tokens"):
        begun(generator, Sampling(1), "x" * CONTEXT)
    with pytest.raises(Unanswerable, match="at least one"):
        begun(generator, Sampling(1), "")
    heard, running = begun(generator, Sampling(100), "x" * (CONTEXT - 6))
    assert running.prompt_tokens == CONTEXT - 6
    assert heard.ended.wait(LIMIT_S)
    assert len(heard.tokens) == 6
    assert generator.count("x" * CONTEXT) == CONTEXT


def test_a_caller_that_fails_stops_no_other(generator: OpenVinoGenerator) -> None:
    def fail(_: Piece) -> None:
        raise RuntimeError("no more")

    failing = Heard(fail)
    generator.start(PROMPT, Sampling(50), failing.piece, failing.fail)
    assert len(answered(generator, Sampling(8)).tokens) == 8
    assert failing.ended.wait(LIMIT_S)
    assert isinstance(failing.error, RuntimeError)
    assert len(failing.pieces) == 1


def test_the_engine_knows_nothing_of_its_parent_and_talks_to_nobody_else(
    tiny_gguf: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the parent")
    with Path(__file__).open() as kept:
        os.set_inheritable(kept.fileno(), True)
        made = OpenVinoGenerator(tiny_gguf("Q4_0"), ROOM)
        try:
            answered(made, Sampling(2))
            process = Path(f"/proc/{made.pid}")
            assert b"SECRET" not in (process / "environ").read_bytes()
            opened = [str(each.readlink()) for each in (process / "fd").iterdir()]
            assert len([each for each in opened if each.startswith("socket:")]) == 1
            assert __file__ not in opened
        finally:
            made.close()
    assert not process.exists()


def test_answers_that_have_no_room_together_take_turns(tiny_gguf: Write) -> None:
    blocks, block_bytes = 11, 2 * 2 * 32 * 32 * 2  # keys and values, layers, tokens, numbers of a head, bytes
    made = OpenVinoGenerator(tiny_gguf(), Room(blocks * block_bytes, threads=1, step_tokens=64, answers=6))
    try:
        alone = answered(made, Sampling(150))
        many = [begun(made, Sampling(150))[0] for _ in range(6)]
        assert eventually(lambda: made.load().cache_used > 0.9 or many[-1].ended.is_set())
        assert all(heard.ended.wait(LIMIT_S) and heard.tokens == alone.tokens for heard in many)
    finally:
        made.close()


def test_an_engine_that_talks_nonsense_is_ended(tiny_gguf: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    made = OpenVinoGenerator(tiny_gguf("Q4_0"), ROOM)
    try:
        first = made.pid
        monkeypatch.setattr(made._tokens, "parts", ())
        heard, _ = begun(made, Sampling(200))
        assert heard.ended.wait(LIMIT_S)
        assert isinstance(heard.error, EngineDied)
        assert made.pid != first
    finally:
        made.close()


def test_an_engine_that_knows_too_many_schemas_is_started_anew(
    tiny_gguf: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_generator, "_MOST_SCHEMAS", 1)
    made = OpenVinoGenerator(tiny_gguf(**{"llama.context_length": CONTEXT}), ROOM)
    try:
        first = made.pid
        answered(made, Sampling(2, json_schema='{"type": "object"}'))
        assert eventually(lambda: made.pid not in (None, first))
        assert made.load().faults == 0, "which is no fault of it"
    finally:
        made.close()


def test_a_killed_engine_ends_what_it_had_begun_and_comes_back(tiny_gguf: Write) -> None:
    made = OpenVinoGenerator(tiny_gguf(**{"llama.context_length": CONTEXT}), ROOM)
    try:
        before = answered(made, Sampling(8)).tokens
        heard, running = begun(made, LONG)
        assert heard.begun.wait(LIMIT_S)
        first = made.pid
        assert first
        os.kill(first, signal.SIGKILL)
        assert heard.ended.wait(LIMIT_S)
        assert isinstance(heard.error, EngineDied)
        assert "SIGKILL" in str(heard.error)
        assert not heard.pieces[-1].finish
        running.cancel()  # which has ended
        assert eventually(lambda: made.pid not in (None, first))
        assert answered(made, Sampling(8)).tokens == before
        assert made.load().faults == 1
    finally:
        made.close()
    with pytest.raises(EngineDied):
        begun(made, Sampling(1))


def test_an_engine_that_hangs_is_ended(tiny_gguf: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "_QUIET_LIMIT_S", 0.3)
    made = OpenVinoGenerator(tiny_gguf(), ROOM)
    try:
        assert made.pid
        os.kill(made.pid, signal.SIGSTOP)
        heard, _ = begun(made, Sampling(8))
        assert heard.ended.wait(LIMIT_S)
        assert isinstance(heard.error, EngineDied)
    finally:
        made.close()


def test_an_engine_ends_with_its_parent(tiny_gguf: Write, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(tiny_gguf("Q4_0"))
    program = (
        "from pathlib import Path; from headrace_engines.openvino_generator import OpenVinoGenerator\n"
        f"made = OpenVinoGenerator(Path({str(model)!r})); print(made.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        engine = Path(f"/proc/{int(parent.stdout.readline())}")
        assert engine.exists()
        parent.kill()
    assert eventually(lambda: not engine.exists())


def test_what_cannot_be_loaded_says_how_it_ended() -> None:
    def ignored(_: object) -> None:
        raise AssertionError

    with pytest.raises(NotAModel, match=r"code 1 .*No module named"):
        EngineProcess("headrace_engines.none_such", {}, ignored, ignored, lambda: False)
