"""`chat`: a conversation with a model of language, its answers as they are written."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, error_line, note, print_json, printable
from headrace_client.conversing import TEXT_INPUT, Part, Turn
from headrace_client.errors import HeadraceClientError, InputInvalid
from headrace_client.inference import InferenceClient

ANEW: Final = "/new"
"""What one types to begin a new conversation."""
LIMIT_S: Final = 600.0
"""How long an answer may take; the server has a limit of its own."""


@dataclass
class _Answer:
    """An answer, as far as it came."""

    text: str = ""
    tokens: int = 0
    began_s: float = field(default_factory=time.perf_counter)
    first_s: float = 0.0
    """Seconds until its first text."""
    took_s: float = 0.0
    last: Part | None = None

    def add(self, part: Part) -> None:
        self.took_s = time.perf_counter() - self.began_s
        if part.text and not self.text:
            self.first_s = self.took_s
        self.text += part.text
        self.tokens += part.tokens
        self.last = part

    @property
    def rate(self) -> float | None:
        """Tokens a second behind the first; None of an answer that came at once."""
        behind_s = self.took_s - self.first_s
        return (self.tokens - 1) / behind_s if self.tokens > 1 and behind_s > 0 else None

    def told(self) -> str:
        """Return what it took, in words."""
        assert self.last is not None  # noqa: S101 - it is whole
        found = [f"version {self.last.version} ({self.last.variant})"]
        if self.last.cached:
            return ", ".join([*found, "from the cache"])
        rate = "" if self.rate is None else f", {self.rate:.0f} tokens/s"
        cut = ", cut at its most tokens" if self.last.finish == "length" else ""
        return f"{found[0]}, {self.tokens} tokens, the first after {self.first_s:.2f} s{rate}{cut}"

    def view(self, model: str) -> dict[str, Any]:
        """Return it as JSON values."""
        assert self.last is not None  # noqa: S101 - it is whole
        last = self.last
        return {
            "answer": self.text,
            "finish": last.finish,
            "prompt_tokens": last.prompt_tokens,
            "answer_tokens": self.tokens,
            "first_token_ms": self.first_s * 1000,
            "duration_ms": self.took_s * 1000,
            "model": model,
            "version": last.version,
            "variant": last.variant,
            "prediction_id": last.prediction_id,
            "cached": last.cached,
        }


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model of language.")],
    once: Annotated[str, typer.Option("--once", metavar="QUESTION", help="Ask this one question and end.")] = "",
    system: Annotated[str, typer.Option("--system", metavar="TEXT", help="What the model is told beforehand.")] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of an answer.")] = 256,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, max=2.0, help="How much is left to chance; 0 for nothing.")
    ] = 0.0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Makes what is left to chance the same.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Talk with a model of language; its answers appear as they are written.

    Ctrl-C ends an answer, Ctrl-D the conversation; /new begins another one. What is piped in is asked line by line.
    """
    if as_json and not once:
        raise typer.BadParameter("expected --once beside it: one answer is one object", param_hint="--json")
    sampling = {"max_tokens": max_tokens, "temperature": temperature} | ({} if seed is None else {"seed": seed})
    turns = [Turn("system", system)] if system else []
    with InferenceClient(find_addresses().inference) as client:
        if all(each.name != TEXT_INPUT for each in client.metadata(model).inputs):
            raise InputInvalid(f"model '{model}' is no model of language: `headrace predict {model}` asks it")
        talk = _Talk(client, model, turns, sampling)
        if once:
            answer = talk.ask(once, quiet=as_json)
            if as_json:
                print_json(answer.view(model))
            return
        _converse(talk)


class _Talk:
    """A conversation so far."""

    def __init__(self, client: InferenceClient, model: str, turns: list[Turn], sampling: dict[str, Any]) -> None:
        self._client, self._model, self._sampling = client, model, sampling
        self._beginning, self._turns = tuple(turns), list(turns)

    def begin_anew(self) -> None:
        """Forget what was said."""
        self._turns = list(self._beginning)

    def ask(self, question: str, *, quiet: bool = False) -> _Answer:
        """Print the answer to a question as it comes, and keep both. What fails or is given up is not kept."""
        answer, asked = _Answer(), [*self._turns, Turn("user", question)]
        parts = self._client.converse(self._model, asked, timeout_s=LIMIT_S, **self._sampling)
        with closing(parts):
            try:
                for part in parts:
                    answer.add(part)
                    if not quiet:
                        typer.echo(printable(part.text), nl=False)
            finally:
                if answer.text and not quiet:
                    typer.echo()
        if not quiet:
            note(answer.told())
        self._turns = [*asked, Turn("assistant", answer.text)]
        return answer


def _converse(talk: _Talk) -> None:
    typed = sys.stdin.isatty()
    if typed:
        with suppress(ImportError):
            import readline  # noqa: F401 - lines can be edited and come back
        note(f"Ctrl-C ends an answer, Ctrl-D the conversation; {ANEW} begins another one")
    for question in _questions(typed=typed):
        if question == ANEW:
            talk.begin_anew()
            continue
        try:
            talk.ask(question)
        except KeyboardInterrupt:
            note("ended; neither the question nor the answer is kept")
        except HeadraceClientError as error:
            if not typed:
                raise
            error_line(str(error))


def _questions(*, typed: bool) -> Iterator[str]:
    while True:
        try:
            line = input("> " if typed else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            typer.echo()
            continue
        if line:
            yield line
