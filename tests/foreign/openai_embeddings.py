"""OpenAI's client embeds the texts of standard input, a list in JSON, and prints the vectors. Address and model."""

from __future__ import annotations

import json
import sys

import openai


def main(address: str, model: str) -> None:
    """Print them as JSON."""
    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
    found = client.embeddings.create(model=model, input=json.load(sys.stdin))
    print(json.dumps([each.embedding for each in found.data]))


if __name__ == "__main__":
    main(*sys.argv[1:])
