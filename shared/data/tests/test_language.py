"""Texts that are read as language: as they are in a dataset, with nothing of them in what is known of its rows."""

import json

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.errors import ManifestInvalid
from headrace_data.fitting import fit
from headrace_data.records import RecordChecker
from headrace_data.sketch_files import to_bytes
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline, parse_canonical
from headrace_data.transforms import FittedTransforms
from headrace_data.transforms.text import FittedLanguage

DIGEST = "sha256:" + "ab" * 32
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: reviews}}
stream:
  topic: reviews
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: review, type: string, role: feature{more}}}
    - {{name: mood, type: string, role: label}}
prepare:
  clean: {{missing: keep}}
  transform:
    review: {{{choice}}}
train: {{network: {network}}}
"""
ENCODER = f"{{kind: encoder, digest: '{DIGEST}', sizeBytes: 7}}"


def pipeline_of(choice: str = "encode: text", network: str = ENCODER, more: str = "") -> Pipeline:
    return load_pipeline(DOCUMENT.format(choice=choice, network=network, more=more))


def sketched(pipeline: Pipeline, texts: list[str | None]) -> Sketch:
    rows = [json.dumps({"id": place, "review": text, "mood": "a"}).encode() for place, text in enumerate(texts)]
    checked = RecordChecker(pipeline.stream).check(rows, [0] * len(rows), range(len(rows)))
    assert checked.rejected == []
    sketch = Sketch(pipeline)
    sketch.add(checked.batch, 0, np.zeros(len(checked.batch), np.int8))
    return sketch


def test_nothing_of_the_texts_is_kept_in_what_is_known_of_rows() -> None:
    pipeline = pipeline_of()
    sketch = sketched(pipeline, ["a secret of somebody", "another one", "a third"])
    assert b"secret" not in to_bytes(sketch)
    fitted = fit(sketch.sides["train"], pipeline)["review"]
    assert fitted == FittedLanguage("review")
    assert not fitted.optional


def test_a_text_that_may_be_missing_has_a_text_in_its_place() -> None:
    pipeline = pipeline_of("impute: {constant: nothing}, encode: text", more=", nullable: true")
    transforms = fit(sketched(pipeline, ["a", None, " "]).sides["train"], pipeline)
    fitted = transforms["review"]
    assert fitted == FittedLanguage("review", "nothing")
    assert isinstance(fitted, FittedLanguage)
    assert fitted.codes_of(pa.array(["a", None, " ", ""])).tolist() == ["a", "", "", ""]
    assert FittedTransforms.from_plain(json.loads(json.dumps(transforms.to_plain()))) == transforms
    with pytest.raises(TypeError, match="expected a network that reads language"):
        fitted.apply(["a"])
    with pytest.raises(ManifestInvalid, match="expected a text, got one that cannot be read: 7"):
        FittedTransforms.from_plain([{"name": 7, "encode": "text"}])


def test_a_spec_keeps_its_meaning_as_canonical_json() -> None:
    pipeline = pipeline_of()
    again = parse_canonical(pipeline.canonical_json())
    assert again == pipeline
    assert again.train.network.model_dump() == {
        "kind": "encoder",
        "digest": DIGEST,
        "size_bytes": 7,
        "tune": "lora",
        "rank": 8,
        "length": 128,
        "pooling": "mean",
    }


PAIR = "}\n    - {name: reply, type: string, role: feature"


def test_two_texts_are_a_pair_in_the_order_of_the_schema() -> None:
    pipeline = pipeline_of("encode: text}\n    reply: {encode: text", more=PAIR)
    assert [field.name for field in pipeline.stream.features] == ["review", "reply"]
    assert parse_canonical(pipeline.canonical_json()) == pipeline


EMBEDDER = ENCODER.replace("7}", "7, embedding: true}")


def test_embeddings_are_asked_for_in_the_network() -> None:
    pipeline = pipeline_of(network=EMBEDDER)
    assert pipeline.train.network.plain()["embedding"] is True
    assert parse_canonical(pipeline.canonical_json()) == pipeline
    assert "embedding" not in pipeline_of(network=ENCODER.replace("7}", "7, embedding: false}")).train.network.plain()


@pytest.mark.parametrize(
    ("choice", "network", "more", "expected"),
    [
        (
            "encode: text",
            "{kind: mlp}",
            "",
            "text expects a network that reads language (encoder, causal-lm, new-causal-lm), got mlp",
        ),
        ("encode: hash", ENCODER, "", "expects one feature or two, each a string with prepare.transform.NAME."),
        (
            "encode: text",
            ENCODER,
            "}\n    - {name: stars, type: int64, role: feature",
            "prepare.transform.NAME.encode: text, got 2 of which 1 are",
        ),
        (
            "encode: text}\n    reply: {encode: text}\n    third: {encode: text",
            ENCODER,
            PAIR + PAIR.replace("reply", "third"),
            "train.network.kind: encoder expects one feature or two, each a string with prepare.transform.NAME.encode: "
            "text, got 3 of which 3 are",
        ),
        ("encode: text}\n    reply: {encode: hash", ENCODER, PAIR, "got 2 of which 1 are"),
        (
            "encode: text}\n    reply: {encode: text",
            EMBEDDER,
            PAIR,
            "train.network.embedding: expected one text, got 2: what a pair becomes is no place among texts",
        ),
        (
            "encode: text}\n    embedding: {encode: text",
            EMBEDDER,
            PAIR.replace("reply", "embedding"),
            "stream.schema[2].name: expected another name for a feature beside train.network.embedding",
        ),
        (
            "encode: text",
            ENCODER + "\ncompress: {gates: {embeddingCosine: 0.9}}",
            "",
            "compress.gates.embeddingCosine: expected none without train.network.embedding: true, got 0.9",
        ),
        ("impute: mostFrequent, encode: text", ENCODER, ", nullable: true", "expected {constant: TEXT} for a string"),
        ("encode: text", "{kind: encoder}", "", "train.network.digest: required"),
        ("encode: text", ENCODER.replace("sha256", "md5"), "", "train.network.digest: expected"),
        ("encode: text", ENCODER.replace("7}", "7, length: 3}"), "", "train.network.length: expected"),
        ("encode: text", ENCODER + "\n  augment: {noise: 1}", "", "train.augment.noise: expected none for encoder"),
        (
            "encode: text",
            ENCODER.replace("7}", "7, tune: frozen}") + "\n  augment: {tokenDropout: 0.1}",
            "",
            "train.augment.tokenDropout: expected an encoder that is tuned (lora or full), got a frozen one",
        ),
        (
            "encode: hash",
            "{kind: mlp}\n  augment: {tokenDropout: 0.1}",
            "",
            "tokenDropout: expected an encoder, got mlp",
        ),
    ],
)
def test_a_spec_that_asks_for_what_cannot_be_is_told(choice: str, network: str, more: str, expected: str) -> None:
    document = DOCUMENT.replace("train: {{network: {network}}}", "train:\n  network: {network}")
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(document.format(choice=choice, network=network, more=more))
    assert any(expected in str(problem) for problem in caught.value.problems), caught.value.problems
