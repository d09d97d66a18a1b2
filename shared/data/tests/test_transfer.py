"""What a document may say of the version that is begun from, and of its layers."""

from __future__ import annotations

import pytest
from headrace_data.spec import NamedVersion, SpecInvalid, load_pipeline, named_version, parse_canonical

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: claims}}
stream:
  topic: claims
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
train: {{network: {{kind: {kind}}}{train}}}
"""


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        ("champion", NamedVersion("", 0)),
        ("3", NamedVersion("", 3)),
        ("digits/3", NamedVersion("digits", 3)),
        ("a-b/champion", NamedVersion("a-b", 0)),
    ],
)
def test_a_version_is_named_by_a_word_a_number_or_with_its_pipeline(origin: str, named: NamedVersion) -> None:
    pipeline = load_pipeline(DOCUMENT.format(kind="mlp", train=f", from: {origin}"))
    assert pipeline.train.origin == origin
    assert named_version(origin) == named
    assert parse_canonical(pipeline.canonical_json()) == pipeline


def test_what_is_said_of_layers_comes_back_and_is_in_no_digest_until_it_is_said() -> None:
    said = DOCUMENT.format(kind="mlp", train=', from: 3, freeze: [0, encoder.layer], rates: {"3": 0.1}')
    train = parse_canonical(load_pipeline(said).canonical_json()).train
    assert (train.freeze, train.rates) == (("0", "encoder.layer"), {"3": 0.1})
    plain = load_pipeline(DOCUMENT.format(kind="mlp", train="")).train.plain()
    assert not {"from", "freeze", "rates"} & plain.keys()


@pytest.mark.parametrize(
    ("kind", "train", "expected"),
    [
        ("mlp", ", from: 0", "train.from: expected champion, the number of a version"),
        ("mlp", ", from: Digits/3", "train.from: expected champion, the number of a version"),
        ("mlp", ", from: champions", "train.from: expected champion, the number of a version"),
        ("mlp", ", from: true", "train.from: expected a valid string, got true"),
        ("mlp", ", freeze: [0]", "train.freeze: expected train.from beside it"),
        ("mlp", ', rates: {"0": 0.1}', "train.rates: expected train.from beside it"),
        ("mlp", ', from: 1, freeze: [0, 3], rates: {"3": 0.1}', "train.rates.3: expected no rate of a layer"),
        ("mlp", ', from: 1, rates: {"3": 0}', "train.rates.3: expected greater than 0, got 0"),
        ("trees", ", from: champion", "train.from: expected none for trees, which do not heed it"),
    ],
)
def test_what_no_run_could_begin_from_is_refused(kind: str, train: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(DOCUMENT.format(kind=kind, train=train))
    (problem,) = refused.value.problems
    assert expected in str(problem)
