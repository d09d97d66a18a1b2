"""OpenAI's client, as its users call it: the address of the REST port."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
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
