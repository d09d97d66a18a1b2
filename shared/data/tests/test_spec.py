import json
from pathlib import Path
from typing import get_args

import pytest
from headrace_data.spec import SpecInvalid, json_schema, load_pipeline, parse_canonical
from headrace_data.spec.networks import Network
from headrace_data.tasks import TASKS

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "pipeline.yaml"
MINIMAL = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: small}
stream:
  topic: small
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature}
    - {name: y, type: int64, role: label}
train:
  network: {kind: mlp}
"""


def problems(document: bytes | str) -> list[str]:
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(document)
    return [str(problem) for problem in caught.value.problems]


def with_line(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


def test_the_example_is_right() -> None:
    pipeline = load_pipeline(EXAMPLE.read_bytes())

    assert pipeline.name == pipeline.model == "digits"
    assert [field.name for field in pipeline.stream.features] == ["pixels"]
    assert pipeline.stream.features[0].shape == (8, 8)
    assert pipeline.stream.label.name == "digit"
    assert pipeline.stream.id is not None
    assert pipeline.split_field.name == "image"
    assert pipeline.prepare.freeze.after_idle == 3.0
    assert pipeline.prepare.freeze.after_records == 1797
    assert pipeline.serve.cache == "redis"
    assert pipeline.serve.cache_ttl == 3600.0


def test_defaults_fill_a_minimal_document() -> None:
    pipeline = load_pipeline(MINIMAL)

    assert pipeline.model == "small"
    assert pipeline.prepare.clean.duplicates == "drop"
    assert pipeline.prepare.freeze.after_records is None
    assert pipeline.compress.variants == ()
    assert pipeline.train.early_stop is None
    assert pipeline.stream.key_field == pipeline.stream.id


def test_canonical_json_keeps_the_pipeline_and_its_digest() -> None:
    pipeline = load_pipeline(EXAMPLE.read_bytes())

    again = parse_canonical(pipeline.canonical_json())

    assert again == pipeline
    assert again.canonical_json() == pipeline.canonical_json()
    assert again.digest == pipeline.digest
    assert pipeline.digest.startswith("sha256:")
    assert len(pipeline.digest) == 71


def test_the_digest_names_the_meaning_not_the_spelling() -> None:
    spelled = with_line("topic: small", "topic: small  # the producers' topic\n  format: 'json'")
    ranged = with_line("type: float32,", "type: float32, range: [0, 16],")

    assert load_pipeline(spelled).digest == load_pipeline(MINIMAL).digest
    assert load_pipeline(ranged).digest == load_pipeline(ranged.replace("[0, 16]", "[-0.0, 1.6e1]")).digest
    assert load_pipeline(ranged).digest != load_pipeline(MINIMAL).digest


def test_dataset_digests_ignore_what_leaves_the_rows_alone() -> None:
    first = load_pipeline(MINIMAL)
    other = load_pipeline(with_line("{kind: mlp}", "{kind: mlp, hidden: [4]}") + "prepare: {freeze: {afterIdle: 1m}}\n")
    salted = load_pipeline(MINIMAL + "prepare: {split: {salt: pepper}, transform: {x: {scale: minmax}}}\n")

    assert first.digest != other.digest
    assert (first.schema_digest, first.prepare_digest, first.split_digest) == (
        other.schema_digest,
        other.prepare_digest,
        other.split_digest,
    )
    assert salted.schema_digest == first.schema_digest
    assert salted.split_digest != first.split_digest
    assert salted.prepare_digest != first.prepare_digest


def test_every_problem_is_reported_at_once_with_its_line() -> None:
    document = """\
apiVersion: headrace/v2
kind: Pipeline
metadata: {name: Digits_1}
stream:
  topic: headrace.x
  key: idd
  schema:
    - {name: id, type: string, role: id}
    - {name: other, type: strin, role: id}
    - {name: words, type: string, role: feature}
    - name: pixels
      type: float32
      shape: [8, 0]
      role: feature
prepare:
  freeze: {afterIdle: 3}
  split: {train: 0.7, validation: 0.7}
  transform: {pixel: {scale: standard}, pixels: {scala: none}}
train:
  network: {kind: cnn, hiden: [64]}
  epoch: 3
compress: {gates: {agreement: 2}}
serve: {cache: off}
bogus: 1
"""
    assert problems(document) == [
        "line 1: apiVersion: expected 'headrace/v1', got \"headrace/v2\"",
        "line 3: metadata.name: expected a DNS label: at most 63 lower-case letters, digits and inner hyphens, "
        'got "Digits_1"',
        "line 5: stream.topic: expected a topic of the producers: names that start with 'headrace.' belong to the "
        'platform, got "headrace.x"',
        "line 6: stream.key: unknown field 'idd'; expected one of id, other, words, pixels; did you mean 'id'?",
        "line 7: stream.schema: expected one field with role label, got none",
        "line 9: stream.schema[1].role: expected one field with role id, got another beside schema[0]",
        "line 9: stream.schema[1].type: expected 'string', 'bool', 'int8', 'int16', 'int32', 'int64', 'uint8', "
        "'uint16', 'uint32', 'float32' or 'float64', got \"strin\"",
        "line 10: stream.schema[2].type: expected prepare.transform.words.encode (onehot, ordinal, hash, target or "
        "text) for a string feature, got none",
        "line 13: stream.schema[3].shape[1]: expected greater than or equal to 1, got 0",
        "line 16: prepare.freeze.afterIdle: expected a duration such as 500ms, 3s, 5m, 1h or 7d, got 3",
        "line 17: prepare.split: expected train, validation and test to sum to 1, got 1.55",
        "line 18: prepare.transform.pixel: unknown feature 'pixel'; expected one of words, pixels; "
        "did you mean 'pixels'?",
        "line 18: prepare.transform.pixels.scala: unknown key; expected one of impute, encode, scale; did you mean "
        "'scale'?",
        "line 20: train.network.hiden: unknown key; expected one of kind, channels, hidden; did you mean 'hidden'?",
        "line 21: train.epoch: unknown key; expected one of quantiles, predictionType, model, task, network, "
        "from, freeze, rates, optimizer, classWeights, positive, threshold and 12 more; did you mean 'epochs'?",
        "line 22: compress.gates.agreement: expected less than or equal to 1, got 2",
        "line 24: bogus: unknown key; expected one of apiVersion, kind, metadata, stream, prepare, train, compress, "
        "serve, retain",
    ]


NETWORKS = [get_args(section.model_fields["kind"].annotation)[0] for section in get_args(Network)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "network: {kind: mlp}",
            "task: [regression]\n  network: {kind: mlp}",
            f"line 11: train.task: expected {', '.join(map(repr, [*TASKS][:-1]))} or {[*TASKS][-1]!r}, got "
            '["regression"]',
        ),
        ("role: label", "role: feature", "line 6: stream.schema: expected one field with role label, got none"),
        (
            "role: feature",
            "role: group",
            "line 6: stream.schema: expected at least one field with role feature, got none",
        ),
        ("role: id", "role: label", "line 9: stream.schema[2].role: expected one field with role label, got another"),
        ("name: y", "name: x", "line 9: stream.schema[2].name: expected a name of its own, got 'x', which schema[1]"),
        ("string, role: id", "float64, role: id", "expected an integer type or string for role id, got float64"),
        ("string, role: id", "string, shape: [2], role: id", "expected a single value for role id, got shape [2]"),
        ("string, role", "string, range: [0, 1], role", "expected no range for type string"),
        ("string, role: id", "bool, role: id", "expected an integer type or string for role id, got bool"),
        ("int64, role", "bool, range: [0, 1], role", "expected no range for type bool"),
        (
            "int64, role",
            "int8, range: [0, 300], role",
            "stream.schema[2].range[1]: expected a value of type int8, got 300",
        ),
        (
            "float32, role",
            "float32, range: [1, 1], role",
            "expected [lowest, highest] with lowest below highest, got [1, 1]",
        ),
        ("float32, role", "float32, range: [0, .inf], role", "range[1]: expected a finite number, got .inf"),
        ("float32, role", f"float32, range: [0, {10**30}], role", "expected a whole number of at most 64 bits"),
        ("float32, role", "float32, range: [0, 1e999], role", "expected a number that a double can hold, got 1e999"),
        ("float32, role", "float32, shape: [1025, 1024], role", "expected at most 1048576 elements, got 1049600"),
        ("string, role", "string, nullable: true, role", "expected a field that is always there, got 'id'"),
        (
            "topic: small",
            "topic: small\n  key: x",
            "expected a field of one integer or string, got 'x' of type float32",
        ),
        ("topic: small", "topic: bad topic", "line 5: stream.topic: expected a Kafka topic name"),
        ("name: x", "name: _partition", "line 8: stream.schema[1].name: expected a letter, then at most 63"),
        (
            "kind: mlp",
            "kind: cnn",
            "cnn expects a feature of shape [height, width] or [channels, height, width], got []",
        ),
        (
            "kind: mlp",
            "kind: rnn",
            f"train.network.kind: expected {', '.join(map(repr, NETWORKS))}, got",
        ),
        ("{kind: mlp}", "{kind: python, factory: acme.nets}", "factory: expected package.module:function, got"),
        ("{kind: mlp}", "{kind: python, factory: '__main__:f'}", "factory: expected package.module:function, got"),
        (
            "{kind: mlp}",
            "{kind: python, factory: 'acme.nets:f', arguments: {shape: 1}}",
            "train.network.arguments: expected names of arguments, and none of shape and outputs, got 'shape'",
        ),
        (
            "{kind: mlp}",
            "{kind: python, factory: 'acme.nets:f', arguments: {sizes: [[1]]}}",
            "expected texts, numbers, true and false, or lists of these, got another for 'sizes'",
        ),
        (
            "{kind: mlp}",
            "{kind: python, factory: 'acme.nets:f', arguments: {far: 99999999999999999999}}",
            "got another for 'far'",
        ),
        ("{kind: mlp}", "{hidden: [1]}", "line 11: train.network.kind: required, but not there"),
        ("{kind: mlp}", "{kind: mlp, dropout: 1}", "train.network.dropout: expected less than 1, got 1"),
        ("{kind: mlp}", "[1, 2]", "line 11: train.network: expected"),
        ("{kind: mlp}", "{kind: mlp}\n  seed: true", "line 12: train.seed: expected a valid integer, got true"),
        ("{kind: mlp}", "{kind: mlp}\n  epochs: 1:30", 'line 12: train.epochs: expected a valid integer, got "1:30"'),
        ("  topic: small\n", "", "line 4: stream.topic: required, but not there"),
        ("metadata: {name: small}", "metadata: {name: a-}", "line 3: metadata.name: expected a DNS label"),
        ("metadata: {name: small}", "metadata:", "line 3: metadata: expected an object, got null"),
        ("metadata: {name: small}", "metadata: {name: 2020-01-01x_}", "expected a DNS label"),
        ("metadata: {name: small}", "metadata: {name: 12}", "line 3: metadata.name: expected a valid string, got 12"),
    ],
)
def test_a_problem_names_its_place_and_what_came(old: str, new: str, expected: str) -> None:
    found = problems(with_line(old, new))

    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("prepare: {transform: {z: {scale: none}}}", "prepare.transform.z: unknown feature 'z'; expected one of x"),
        ("prepare: {transform: {y: {scale: none}}}", "expected a feature, got 'y' with role label"),
        ("prepare: {split: {group: z}}", "prepare.split.group: unknown field 'z'; expected one of id, x, y"),
        ("prepare: {split: {group: x}}", "expected a field of one integer or string, got 'x'"),
        ("prepare: {split: {train: 0.5}}", "expected train, validation and test to sum to 1, got 0.8"),
        ("prepare: {split: {train: 1, validation: 0}}", "prepare.split.train: expected less than 1, got 1"),
        ("prepare: {freeze: {afterIdle: 0s}}", 'expected a duration between 1ms and 365d, got "0s"'),
        ("prepare: {freeze: {afterRecords: 0}}", "expected greater than or equal to 1, got 0"),
        ("prepare: {freeze: {minRecords: 9}}", "prepare.freeze.minRecords: expected afterIdle beside it"),
        ("serve: {objective: {p99: null}}", "serve.objective: expected fastest, quality, {p99: DURATION}"),
        ("serve: {objective: {p99: [1]}}", "serve.objective.p99: expected a duration"),
        ("serve: {degrade: true}", "serve.degrade: expected serve.objective to be quality, {p99: DURATION}"),
        (
            "prepare: {freeze: {minRecords: 9, afterRecords: 8, afterIdle: 1s}}",
            "prepare.freeze.minRecords: expected at most afterRecords (8), got 9",
        ),
        ("compress: {variants: [{kind: int8-dynamic}, {kind: int8-dynamic}]}", "expected each variant once"),
        ("compress: {variants: [{kind: int8-dynamic, name: fp32}]}", "expected each variant once, got 'fp32' again"),
        (
            "compress: {variants: [{kind: int8-dynamic}, {kind: float16-weights, name: int8}]}",
            "compress.variants[1]: expected each variant once, got 'int8' again",
        ),
        (
            "compress: {variants: [{kind: chain, name: c, steps: [{kind: int8-dynamic}]}]}",
            "compress.variants[0].steps: Tuple should have at least 2 items",
        ),
        (
            "compress: {variants: [{kind: chain, name: c, steps: [{kind: int8-dynamic}, {kind: int8-dynamic}]}]}",
            "compress.variants[0].steps[1]: expected each step once, got int8-dynamic again",
        ),
        (
            "compress: {variants: [{kind: chain, name: c, steps: [{kind: int8-dynamic, name: d}, {kind: chain}]}]}",
            "compress.variants[0].steps[0].name: expected a step without a name: the chain has one",
        ),
        ("compress: {variants: {kind: int8-dynamic}}", "compress.variants: expected a valid array, got a mapping"),
        ("serve: {cache: always}", "serve.cache: expected 'redis', 'auto' or 'off', got \"always\""),
        ("kind: Pipeline", "line 12: kind: the key is there twice: first in line 2"),
        ("serve: &s {cache: off}", "line 12: anchors and aliases are not supported: write the value of 's' out"),
        ("serve: !!python/object:os.system {}", "line 12: tags are not supported"),
        ("serve: {cache: !!str off}", "line 12: tags are not supported, got '!!str'"),
        ("? [a, b]\n: 1", "line 12: expected a plain key, got a nested one"),
        ("serve: {cache: 'off", "line 13: bad YAML: "),
        ("serve:\n\t cache: off", "line 13: bad YAML: "),
        ("serve: {cache: \x07}", "line 12: bad YAML: the character U+0007 is not allowed"),
        ('serve: {cache: "\\ud800"}', "line 12: serve.cache: expected text, got half of a surrogate pair"),
        ('"\\udfff": 1', "line 12: expected text as key, got half of a surrogate pair"),
        ("---\nkind: Pipeline", "bad YAML: expected a single document"),
        ("serve: " + "[" * 50_000, "line 12: expected at most 32 levels, got more"),
        ("serve: " + "9" * 5_000, "line 12: serve: expected"),
        ("serve: " + "x" * 300_000, "line 1: expected at most 262144 bytes"),
    ],
)
def test_a_problem_at_the_end_is_found(tail: str, expected: str) -> None:
    found = problems(MINIMAL + tail + "\n")

    assert any(expected in problem for problem in found), found


def test_a_null_stands_for_nothing_only_where_nothing_is_allowed() -> None:
    gaps = with_line("type: float32,", "type: float32, nullable: true,") + "prepare: {clean: {missing: keep}}\n"

    assert problems(gaps) == [
        "line 8: stream.schema[1].nullable: expected prepare.transform.x.impute while prepare.clean.missing is keep, "
        "got none: nothing fills the gaps"
    ]
    assert load_pipeline(gaps.replace("keep", "drop")).stream.features[0].nullable


def test_explicit_duplicates_need_a_key() -> None:
    keyless = with_line("role: id", "role: group")
    asking = keyless + "prepare: {clean: {duplicates: drop}}\n"

    pipeline = load_pipeline(keyless)

    assert pipeline.stream.key_field is None
    assert parse_canonical(pipeline.canonical_json()) == pipeline
    assert problems(asking) == [
        "line 12: prepare.clean.duplicates: drop expects stream.key or a field with role id, got neither"
    ]


def test_rows_need_a_field_to_split_by() -> None:
    document = MINIMAL.replace("    - {name: id, type: string, role: id}\n", "")

    assert any("expected a field to split by" in problem for problem in problems(document))


def test_a_cnn_takes_one_image() -> None:
    image = MINIMAL.replace("kind: mlp", "kind: cnn").replace("type: float32,", "type: float32, shape: [8, 8],")
    second = image.replace("- {name: y", "- {name: z, type: float32, role: feature}\n    - {name: y")

    assert load_pipeline(image).train.network.kind == "cnn"
    assert "got 2" in problems(second)[0]


def test_yaml_words_mean_what_people_mean() -> None:
    tail = "serve: {cache: off}\n"
    pipeline = load_pipeline(MINIMAL.replace("{kind: mlp}", "{kind: mlp}\n  optimizer: {learningRate: 1e-3}") + tail)

    assert pipeline.serve.cache == "off"
    assert pipeline.train.optimizer.learning_rate == 0.001


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("", "line 1: expected a mapping, got an empty document"),
        ("# nothing\n", "line 1: expected a mapping, got an empty document"),
        ("[1]", "line 1: expected an object, got [1]"),
        ("null", "line 1: expected an object, got null"),
        (b"a: 1\nb: \xff\n", "line 2: expected UTF-8, got the byte 0xff"),
        ('a: 1\nb: "\\U00110000"\n', "line 2: bad YAML: a number is too large: chr() arg not in range(0x110000)"),
        ('a: "\\UFFFFFFFF"\n', "line 1: bad YAML: a number is too large: Python int too large to convert to C int"),
        (
            f"%YAML 1.{'9' * 5_000}\n---\n",
            "line 1: bad YAML: a number is too large: Exceeds the limit (4300 digits) for "
            "integer string conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit",
        ),
        ("a: &x [1]\nb: *x\n", "line 2: anchors and aliases are not supported: write the value of 'x' out"),
    ],
)
def test_documents_that_are_none(document: bytes | str, expected: str) -> None:
    assert expected in problems(document)


def test_a_byte_order_mark_is_no_problem() -> None:
    assert load_pipeline(b"\xef\xbb\xbf" + MINIMAL.encode()) == load_pipeline("\ufeff" + MINIMAL)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff", b'{"kind": NaN}', b"[" * 900 + b"]" * 900])
def test_bad_canonical_json_is_refused(data: bytes) -> None:
    with pytest.raises(SpecInvalid):
        parse_canonical(data)


def test_the_json_schema_is_stable_and_documents_every_key() -> None:
    schema = json.loads(json_schema())

    assert json_schema() == json_schema()
    assert schema["additionalProperties"] is False
    for section in [schema, *schema["$defs"].values()]:
        for key, described in section["properties"].items():
            inner = schema["$defs"].get(described.get("$ref", "").removeprefix("#/$defs/"), {})
            assert described.get("description") or inner.get("description"), key
