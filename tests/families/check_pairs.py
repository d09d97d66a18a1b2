"""Pairs of sentences and embeddings by MiniLM: the graph answers as transformers does with the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.canonical import sha256_digest
from headrace_data.spec import EncoderNetwork
from headrace_data.transforms.text import FittedLanguage
from headrace_engines.beside import total_bytes
from headrace_learning.evaluation import open_graph
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.text_network import TextNetwork
from headrace_learning.features import Feature
from headrace_learning.graphs import LOGITS, with_logits
from headrace_learning.large import whole
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source
from headrace_learning.served import ServedClassifier

from tests.contract.foreign.conftest import FOREIGN, Server, foreign_python, sync_foreign

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import sentences  # noqa: E402 - found through the line above
from tuning import Files  # noqa: E402 - as above

__all__ = ["foreign_python", "sync_foreign"]

pytestmark = pytest.mark.timeout(3600)

LENGTH = 64
LEAST_COSINE = {"int8-dynamic": 0.8, "float16-weights": 0.9999, "weight-only-int8": 0.99}
"""Mean cosine of the embeddings of a variant with those of transformers, at least."""


@pytest.fixture(scope="module")
def files() -> Files:
    return Files()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """A hundred sentences; some are longer than what is read."""
    rows = sentences.rows(40)["test"]["texts"]
    return [*rows, *(" ".join(rows[place : place + 4]) for place in range(0, 40, 4)), "", "[SEP]", "😀 ünïcödé"]


def graph_of(files: Files, texts: dict[str, Any], **changes: Any) -> tuple[TextNetwork, bytes]:
    """Return a network whose head is drawn at random, and its graph, compared with it on all rows."""
    plain = {"kind": "encoder", "digest": sha256_digest(files.document), "size_bytes": len(files.document)}
    section = EncoderNetwork.model_validate(plain | {"length": LENGTH} | changes)
    family = FAMILIES["encoder"].opened(section, files)
    features = family.features([Feature(FittedLanguage(name)) for name in texts])
    torch.manual_seed(1)
    encoder = family.base.encoder()  # type: ignore[attr-defined]
    network = TextNetwork(encoder, 384, section.pooling, 3, len(texts), embedding=section.embedding).eval()
    model = ServedClassifier(features, family.input_shape(features), network)
    return network, whole(export_graph(model, ["a", "b", "c"], texts).data)


def read(files: Files, *columns: list[str]) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast  # what it takes has no types
    tokenizer = tokenizer(tokenizer_file=str(files.folder / "tokenizer.json"), pad_token="[PAD]")
    how = {"truncation": True, "max_length": LENGTH, "padding": True, "return_tensors": "pt"}
    return tokenizer(*columns, return_token_type_ids=True, **how)


class First(torch.nn.Module):
    """The first place of what a text has become."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[:, 0]


@torch.no_grad()
def test_pairs_are_classified_as_transformers_does(files: Files, texts: list[str]) -> None:
    from transformers import BertForSequenceClassification

    others = texts[::-1]
    columns = {"question": np.array(texts, dtype=object), "answer": np.array(others, dtype=object)}
    network, graph = graph_of(files, columns, pooling="cls")
    (given,) = open_graph(with_logits(graph)).run(columns, [LOGITS])
    reference: Any = BertForSequenceClassification.from_pretrained(files.folder, num_labels=3).train(False)
    # Its head reads the first place as ours does, without the dense layer that MiniLM was not trained with.
    reference.bert.pooler, reference.classifier = First(), network.head
    logits = reference(**read(files, texts, others)).logits
    difference = float(np.abs(given - logits.numpy()).max())
    print(f"pairs: {len(texts)} rows, largest difference of a logit {difference:.2e}")
    assert difference < 1e-4


@torch.no_grad()
def means(files: Files, texts: list[str]) -> Any:
    """Return the embeddings of texts by transformers: the mean over the tokens, with a length of 1."""
    from transformers import BertModel

    tokens = read(files, texts)
    reference: Any = BertModel.from_pretrained(files.folder).train(False)
    hidden, mask = reference(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(2)
    return torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1)).numpy()


def test_openais_client_gets_the_embeddings_of_the_model(
    files: Files, texts: list[str], foreign_python: str, tmp_path: Path
) -> None:
    asked = [text for text in texts if text][-64:]
    _, graph = graph_of(files, {"text": np.array(asked, dtype=object)}, embedding=True)
    server = Server(tmp_path)
    try:
        server.release("minilm", graph)
        server.wait_for("minilm")
        command = [foreign_python, str(FOREIGN / "openai_embeddings.py"), server.rest_address, "minilm"]
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    given, expected = np.array(json.loads(done.stdout)), means(files, asked)
    print(f"embeddings over REST: {given.shape}, largest difference {np.abs(given - expected).max():.2e}")
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_embeddings_are_those_of_a_mean_over_the_tokens(files: Files, texts: list[str]) -> None:
    columns = {"text": np.array(texts, dtype=object)}
    _, graph = graph_of(files, columns, embedding=True)
    (given,) = open_graph(graph).run(columns, ["embedding"])
    expected = means(files, texts)
    print(f"embeddings: {len(texts)} rows, largest difference {np.abs(given - expected).max():.2e}")
    np.testing.assert_allclose(given, expected, atol=1e-4)
    for kind, least in LEAST_COSINE.items():
        smaller = METHODS[kind].make(Source(graph), None)
        assert isinstance(smaller, Made)
        (other,) = open_graph(smaller.graph).run(columns, ["embedding"])
        cosine = float((other * expected).sum(axis=1).mean())
        print(
            f"embeddings of {kind}: mean cosine {cosine:.4f}, {total_bytes(smaller.graph) / len(graph):.2f} of the size"
        )
        assert cosine >= least
