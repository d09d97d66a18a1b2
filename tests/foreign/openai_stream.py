"""OpenAI's client reads a stream: tells each piece as it comes, and how it ended. Address, model and tokens."""

from __future__ import annotations

import json
import sys

import openai


def main(address: str, model: str, tokens: str) -> None:
    """Print a line of JSON for each piece, with why the answer ended, and one for the end: `whole`, or the error."""
    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=60)
    try:
        asked = {"model": model, "prompt": "the river turns", "max_tokens": int(tokens)}
        for chunk in client.completions.create(**asked, stream=True):
            print(json.dumps([chunk.choices[0].text, chunk.choices[0].finish_reason]), flush=True)
        print(json.dumps("whole"))
    except Exception as error:  # its own, or of the library that it reads with
        print(json.dumps(type(error).__name__))


if __name__ == "__main__":
    main(*sys.argv[1:])
