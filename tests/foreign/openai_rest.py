"""OpenAI's client, as its users call it: the address of the REST port."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.request import urlopen

import openai
from checks import run
from openapi_spec_validator import validate

TEXTS = ["a good film", "it was not so bad"]


def refused(kind: type[openai.APIStatusError], *words: str, call: Callable[[], Any]) -> None:
    said = "it was answered"
    try:
        call()
    except kind as error:
        said = str(error)
    assert all(word in said for word in words), said


def check_models(client: openai.OpenAI) -> None:
    assert "docs" in [each.id for each in client.models.list()]
    assert client.models.retrieve("docs").object == "model"
    refused(openai.NotFoundError, "digits", call=lambda: client.models.retrieve("digits"))


def check_embeddings_in_both_encodings(client: openai.OpenAI) -> None:
    # It asks for base64 unless told otherwise, and makes numbers of it.
    packed = client.embeddings.create(model="docs", input=TEXTS)
    plain = client.embeddings.create(model="docs", input=TEXTS, encoding_format="float")
    assert [each.embedding for each in packed.data] == [each.embedding for each in plain.data]
    assert [len(each.embedding) for each in plain.data] == [2, 2]
    (alone,) = client.embeddings.create(model="docs@champion", input=TEXTS[1]).data
    assert alone.embedding == packed.data[1].embedding
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > len(TEXTS)


def check_errors_are_those_of_the_client(client: openai.OpenAI) -> None:
    embed = client.embeddings.create
    refused(openai.NotFoundError, "'nobody' is not released", call=lambda: embed(model="nobody", input="a"))
    refused(openai.BadRequestError, "the embedding of a text", call=lambda: embed(model="digits", input="a"))
    refused(openai.BadRequestError, "dimensions", call=lambda: embed(model="docs", input="a", dimensions=7))
    refused(openai.BadRequestError, "tokens are this", call=lambda: embed(model="docs", input=[1, 2]))
    messages: Any = [{"role": "user", "content": "a"}]
    chat = client.chat.completions.create
    refused(openai.BadRequestError, "model of language", call=lambda: chat(model="docs", messages=messages))
    refused(openai.BadRequestError, "n: expected 1", call=lambda: chat(model="docs", messages=messages, n=2))


ASKED: dict[str, Any] = {
    "model": "words",
    "messages": [{"role": "system", "content": "the mill"}, {"role": "user", "content": "the river turns the wheel"}],
    "max_tokens": 12,
}


def check_conversations_whole_and_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASKED, extra_body={"priority": 1})
    (choice,) = whole.choices
    assert (choice.finish_reason, choice.message.role) == ("length", "assistant")
    assert choice.message.content
    assert whole.usage.completion_tokens == 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 12
    chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == choice.message.content
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    assert len(chunks) > 4, "it came in pieces"


def check_how_tokens_are_chosen(client: openai.OpenAI) -> None:
    drawn = [
        client.chat.completions.create(**ASKED, temperature=1.0, top_p=0.9, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    greedy = client.completions.create(model="words", prompt="the river turns", max_tokens=12).choices[0].text
    stop = greedy[5:8]
    cut = client.completions.create(model="words", prompt="the river turns", max_tokens=12, stop=[stop]).choices[0]
    assert (cut.finish_reason, cut.text) == ("stop", greedy[: greedy.index(stop)])


def check_answers_follow_a_schema(client: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "turns", "schema": {"type": "boolean"}}}
    answer = client.chat.completions.create(**ASKED, response_format=wanted).choices[0]
    assert (answer.finish_reason, answer.message.content) in {("stop", "true"), ("stop", "false")}


def check_probabilities_of_tokens(client: openai.OpenAI) -> None:
    chosen = client.chat.completions.create(**ASKED, logprobs=True).choices[0]
    assert len(chosen.logprobs.content) == 12
    assert all(each.logprob <= 0 for each in chosen.logprobs.content)
    text = client.completions.create(model="words", prompt="the river", max_tokens=3, logprobs=0).choices[0]
    assert len(text.logprobs.tokens) == len(text.logprobs.token_logprobs) == 3


def check_a_text_goes_on_in_pieces(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "words@champion", "prompt": "the river turns", "max_tokens": 8}
    whole = client.completions.create(**asked).choices[0].text
    pieces = list(client.completions.create(**asked, stream=True))
    assert "".join(each.choices[0].text for each in pieces) == whole


def check_what_is_not_done_is_refused(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create
    tool: Any = {"type": "function", "function": {"name": "turn"}}
    for words, more in (
        ("n: expected 1", {"n": 2}),
        ("tools: expected", {"tools": [tool]}),
        ("top_logprobs: expected 0", {"logprobs": True, "top_logprobs": 2}),
        ("max_tokens: expected at most", {"max_tokens": 10**6}),
        ("temperature: expected", {"temperature": 7, "stream": True}),
    ):
        refused(openai.BadRequestError, words, call=partial(chat, **{**ASKED, **more}))


def check_the_description_is_openapi(client: openai.OpenAI) -> None:
    with urlopen(f"{str(client.base_url).removesuffix('/v1/')}/openapi.json") as answer:  # noqa: S310 - our own server
        described = json.load(answer)
    validate(described)
    assert "/v1/chat/completions" in described["paths"]


def checks(namespace: Mapping[str, Any]) -> None:
    def call(check: Callable[..., Any], address: str) -> None:
        with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=60) as client:
            check(client)

    run(namespace, call)


if __name__ == "__main__":
    assert sys.argv[1]
    checks(globals())
