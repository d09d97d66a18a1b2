"""A stream of texts through all six services: a BERT of others is tuned on it, and answers texts over gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from headrace_client import InferenceClient, RegistryClient
from headrace_data.folder import FileRef, Folder
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

ROWS = 300
LENGTH = 16
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: reviews}}
stream:
  topic: reviews
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: review, type: string, role: feature}}
    - {{name: mood, type: string, role: label}}
prepare:
  transform:
    review: {{encode: text}}
  freeze: {{afterRecords: {rows}}}
train:
  network: {{kind: encoder, digest: "{digest}", sizeBytes: {size}, length: {length}, embedding: true}}
  optimizer: {{learningRate: 0.01}}
  epochs: 6
  batchSize: 16
compress:
  variants: [{{kind: int8-dynamic}}]
serve: {{cache: redis}}
"""
STRANGE = ["good " * 100, "[PAD] 😀 \u0000 ünïcödé", "great", "x" * 20_000, "it is bad. [SEP] not good?"]


def send(platform: Platform) -> None:
    random, producer = np.random.default_rng(0), KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for place in range(ROWS):
        words = random.choice(["good", "great", "fine"] if place % 2 else ["bad", "awful", "dull"], 3).tolist()
        text = f"a {words[0]} film: the plot is {words[1]} and so {words[2]}"
        record = {"id": f"r{place}", "review": text, "mood": "good" if place % 2 else "bad"}
        producer.send("reviews", json.dumps(record).encode())
    producer.flush()
    producer.close()


def by_transformers(weights: bytes, folder: Path, texts: list[str]) -> tuple[np.ndarray[Any, Any], ...]:
    """Return what transformers and the head of a version make of texts, [texts, classes], and their embeddings."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tensors = safetensors.torch.load(weights)
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False).eval()
    encoder = "network.encoder."
    model.load_state_dict({name.removeprefix(encoder): each for name, each in tensors.items() if encoder in name})
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    read = tokenizer(texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
    mask = read["attention_mask"].unsqueeze(2)
    with torch.no_grad():
        hidden = model(read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        logits = torch.nn.functional.linear(pooled, tensors["network.head.weight"], tensors["network.head.bias"])
    return torch.softmax(logits, dim=1).numpy(), torch.nn.functional.normalize(pooled).numpy()


def test_texts_are_learned_from_and_answered_as_transformers_answers_them(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    inference: InferenceClient,
    tiny_bert: Path,
    tmp_path: Path,
) -> None:
    store = ObjectStore(platform.connections.store_url)
    kept = {path.name: store.put_file(path) for path in tiny_bert.iterdir()}
    folder = Folder({name: FileRef(each.digest, each.size_bytes) for name, each in kept.items()}).to_json()
    document = DOCUMENT.format(rows=ROWS, digest=store.put(folder).digest, size=len(folder), length=LENGTH)
    (file := tmp_path / "pipeline.yaml").write_text(document)
    applied = headrace("apply", str(file), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    send(platform)
    waited = headrace("wait", "reviews", "--timeout", "150s", "--json")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    version = json.loads(waited.stdout)["version"]

    assert version["metrics"]["accuracy"] > 0.9
    assert {variant["name"] for variant in version["variants"]} == {"fp32", "int8"}
    (tensor,) = inference.metadata("reviews").inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("review", "BYTES", [-1])

    texts = ["a great film", "the song is awful", *STRANGE]
    answers = [inference.infer("reviews", {"review": np.array(texts, dtype=object)}) for _ in range(2)]
    assert answers[0].outputs["label"].tolist()[:2] == ["good", "bad"]
    assert answers[0].outputs["probabilities"].tolist() == answers[1].outputs["probabilities"].tolist()
    assert answers[1].cached
    trained = registry.versions("reviews")[-1].trained
    expected, embeddings = by_transformers(store.get(trained.weights), tiny_bert, texts)
    # The variant of eight bits is released where it is faster; it is as near as its gates ask for.
    served = answers[0].variant
    np.testing.assert_allclose(answers[0].outputs["probabilities"], expected, atol=1e-4 if served == "fp32" else 0.05)
    found = inference.infer("reviews", {"review": np.array(texts, dtype=object)}, outputs=["embedding"])
    assert found.outputs.keys() == {"embedding"}
    np.testing.assert_allclose(found.outputs["embedding"], embeddings, atol=1e-4 if served == "fp32" else 0.1)
    told = headrace("explain", "reviews", "--json", stdin=json.dumps({"review": texts[0]}))
    assert told.returncode == 0, told.stderr
    (explained,) = json.loads(told.stdout)
    assert (explained["label"], list(explained["added"])) == ("good", ["review"])
    assert explained["added"]["review"] == pytest.approx(explained["answer"] - explained["reference"], abs=1e-5)
    page = headrace("report", "reviews", "--output", str(tmp_path / "report.html"))
    assert page.returncode == 0, page.stderr
