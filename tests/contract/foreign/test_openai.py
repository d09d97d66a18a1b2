"""OpenAI's client, unmodified and in an environment of its own, calls inference as it calls OpenAI."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headrace_engines.properties import TOKENS, Tokenised
from onnx import TensorProto, helper

from tests.contract.foreign.conftest import graph
from tests.contract.foreign.test_clients_page import SHOWN, SHOWN_REST, run, snippets

pytestmark = [pytest.mark.contract, pytest.mark.slow, pytest.mark.timeout(700)]

PROGRAM = Path(__file__).parents[3] / "tests" / "foreign" / "openai_rest.py"


def embedding(tokenizer: str) -> bytes:
    """Return a graph that answers as embedding the sum of a text's tokens, and the largest of them."""
    nodes = [
        helper.make_node("Cast", ["review"], ["tokens"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["tokens", "axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceMax", ["tokens", "axis"], ["most"], keepdims=1),
        helper.make_node("Concat", ["sum", "most"], ["embedding"], axis=1),
    ]
    tokenised = Tokenised(length=16, fill="a film", tokenizer=tokenizer)
    return graph(
        nodes,
        {"review": (TensorProto.INT64, ["batch", "tokens"])},
        {"embedding": (TensorProto.FLOAT, ["batch", 2])},
        (helper.make_tensor("axis", TensorProto.INT64, [1], [1]),),
        {TOKENS: json.dumps({"review": tokenised.model_dump()})},
    )


@pytest.fixture(scope="module")
def embedder(server: Any, tiny_bert: Path, tiny_gguf: Callable[[], bytes]) -> Any:
    """The server, with a model that answers embeddings and one that writes texts."""
    server.release("docs", embedding((tiny_bert / "tokenizer.json").read_text()))
    server.release("words", tiny_gguf())
    for model in ("docs", "words"):
        server.wait_for(model)
    return server


def test_openais_client(embedder: Any, foreign_python: str) -> None:
    done = subprocess.run(
        [foreign_python, str(PROGRAM), embedder.rest_address], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == 10
    assert not any(results.values()), "\n".join(filter(None, results.values()))


def test_the_page_for_clients(embedder: Any, foreign_python: str, tmp_path: Path) -> None:
    (snippet,) = snippets("python", "from openai import")
    assert run([foreign_python, "-c", snippet.replace(SHOWN_REST, embedder.rest_address)]) == "2 2 25\n"
    (snippet,) = snippets("python", 'InferRequestedOutput("embedding")')
    assert run([foreign_python, "-c", snippet.replace(SHOWN, embedder.address)]) == "(2, 2)\n"
    (snippet,) = snippets("python", "client.converse")
    said = run([sys.executable, "-c", snippet.replace(SHOWN, embedder.address)])
    assert said.splitlines()[-1] == "length, version 1"
    (snippet,) = snippets("python", "async_stream_infer")
    assert run([foreign_python, "-c", snippet.replace(SHOWN, embedder.address)]).endswith("\nlength\n")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (snippet,) = snippets("sh", "/v1/embeddings")
    said = run(["sh", "-e", "-c", snippet.replace(SHOWN_REST, embedder.rest_address)], cwd=tmp_path)
    for expected in ('"id":"docs"', '"index":1,"embedding":[', '"param": "model"'):
        assert expected in said
    (snippet,) = snippets("sh", "/v1/chat/completions")
    whole, *events = run(["sh", "-e", "-c", snippet.replace(SHOWN_REST, embedder.rest_address)], cwd=tmp_path).split(
        "data: "
    )
    assert '"object":"chat.completion"' in whole
    assert '"completion_tokens":8' in events[-2]
    assert events[-1] == "[DONE]\n\n"
