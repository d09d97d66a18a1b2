"""OpenAI's requests for texts, read: what is asked of a model of language, and how its answer is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from headrace_engines.generator import Message
from headrace_runtime.errors import InvalidInput
from headrace_runtime.priorities import FIRST, LAST

from headrace_inference.core.generation import parameters_of
from headrace_inference.transport.rest.fields import Fields, named

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Roles of messages, and what chat templates call them."""
MOST_MESSAGES: Final = 4096
_IGNORED: Final = ("user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier")
"""Fields that change no answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a text."""

    named: str
    """The model as the caller names it."""
    messages: tuple[Message, ...]
    """The conversation; empty where there is a prompt in its place."""
    prompt: str
    parameters: str
    """How tokens are chosen, as the plane reads it."""
    streamed: bool
    tells_usage: bool
    """Whether a stream ends with what the answer took."""
    logprobs: bool
    priority: int

    @property
    def model(self) -> tuple[str, str]:
        """Model and version."""
        return named(self.named)


def chat_of(value: Any) -> Asked:
    """Return what a request for the answer to a conversation asks. Raises InvalidInput that names a field."""
    asked = Fields(value)
    messages = _messages(asked)
    logprobs = asked.flag("logprobs")
    asked.only("top_logprobs", 0)
    most = asked.whole("max_completion_tokens")
    schema = _schema(asked)
    for name in ("tools", "functions"):
        asked.only(name, [])
    asked.only("tool_choice", "none")
    asked.only("parallel_tool_calls", True, False)
    asked.only("modalities", ["text"])
    return _asked(asked, messages, "", logprobs=logprobs, most=most, guided_json=schema)


def completion_of(value: Any) -> Asked:
    """Return what a request for what follows a text asks. Raises InvalidInput that names a field."""
    asked = Fields(value)
    given = asked.any("prompt")
    prompt = given[0] if type(given) is list and len(given) == 1 else given
    if type(prompt) is not str:
        asked.refuse("prompt", "a text", given)
    logprobs = asked.whole("logprobs")
    if logprobs not in {None, 0}:
        asked.refuse("logprobs", "0, those of the tokens that were chosen", logprobs)
    asked.only("echo", False)
    asked.only("best_of", 1)
    asked.only("suffix", "")
    return _asked(asked, (), prompt, logprobs=logprobs is not None, most=None, guided_json=None)


def _asked(
    asked: Fields, messages: tuple[Message, ...], prompt: str, *, logprobs: bool, most: int | None, guided_json: Any
) -> Asked:
    """Read what both have."""
    model, streamed = asked.needed_text("model"), asked.flag("stream")
    options = asked.any("stream_options")
    tells_usage = False
    if options is not None:
        if not streamed:
            asked.refuse("stream_options", "none beside stream: false", options)
        told = Fields(options, "stream_options.")
        tells_usage = told.flag("include_usage")
        told.only("include_obfuscation", False)
        told.end()
    asked.only("n", 1)
    asked.only("store", False)
    asked.only("logit_bias", {})
    stop = asked.any("stop")
    if stop is not None and not (type(stop) is str or (type(stop) is list and all(type(each) is str for each in stop))):
        asked.refuse("stop", "a text or a list of texts", stop)
    priority = asked.whole("priority") or 0
    if not 0 <= priority <= LAST:
        asked.refuse("priority", f"{FIRST} (first) to {LAST} (last), or 0", priority)
    limit = asked.whole("max_tokens")
    parameters = parameters_of(
        max_tokens=limit if most is None else most,
        temperature=asked.number("temperature"),
        top_p=asked.number("top_p"),
        top_k=asked.whole("top_k"),
        seed=asked.whole("seed"),
        stop=stop,
        presence_penalty=asked.number("presence_penalty"),
        frequency_penalty=asked.number("frequency_penalty"),
        logprobs=logprobs or None,
        guided_json=guided_json,
    )
    asked.left_out(*_IGNORED)
    asked.end()
    _check_unicode(prompt, *(each.content for each in messages))
    return Asked(model, messages, prompt, parameters, streamed, tells_usage, logprobs, priority)


def _check_unicode(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"expected texts that are Unicode: {error.reason}") from error


def _messages(asked: Fields) -> tuple[Message, ...]:
    given = asked.any("messages")
    if type(given) is not list or not 0 < len(given) <= MOST_MESSAGES:
        asked.refuse("messages", f"a list of 1 to {MOST_MESSAGES} messages", given)
    found = []
    for place, each in enumerate(given):
        message = Fields(each, f"messages[{place}].")
        role = message.needed_text("role")
        if role not in _ROLES:
            message.refuse("role", f"one of {', '.join(_ROLES)}", role)
        found.append(Message(_ROLES[role], _content(message, place)))
        message.left_out("name")
        message.only("refusal")
        message.only("tool_calls", [])
        message.end()
    return tuple(found)


def _content(message: Fields, place: int) -> str:
    content = message.any("content")
    if type(content) is str:
        return content
    if type(content) is not list:
        message.refuse("content", "a text or a list of parts of type text", content)
    parts = []
    for index, each in enumerate(content):
        part = Fields(each, f"messages[{place}].content[{index}].")
        part.only("type", "text")
        parts.append(part.needed_text("text"))
        part.end()
    return "".join(parts)


def _schema(asked: Fields) -> Any:
    """Return the JSON schema that the answer has to follow; None for any text."""
    given = asked.any("response_format")
    if given is None:
        return None
    wanted = Fields(given, "response_format.")
    kind = wanted.needed_text("type")
    schema = None
    if kind == "json_object":
        schema = {"type": "object"}
    elif kind == "json_schema":
        told = Fields(wanted.any("json_schema"), "response_format.json_schema.")
        schema = told.any("schema")
        if type(schema) is not dict:
            told.refuse("schema", "a JSON schema", schema)
        told.left_out("name", "strict", "description")
        told.end()
    elif kind != "text":
        wanted.refuse("type", "text, json_object or json_schema", kind)
    wanted.end()
    return schema
