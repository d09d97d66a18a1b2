"""From records to a pipeline's YAML: what is inferred, what is said, and that it always fits the records."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from headrace_client.drafting import DraftImpossible, draft_pipeline
from headrace_data.records import RecordChecker
from headrace_data.spec import Field, Pipeline, load_pipeline
from headrace_data.spec.scalars import FIELD_NAME
from hypothesis import example, given, settings
from hypothesis import strategies as st

PENGUINS = [
    {
        "id": f"p-{number}",
        "island": ("Dream", "Biscoe", "Torgersen")[number % 3],
        "bill": 30 + number / 8,
        "mass": None if number % 20 == 0 else 3000 + number,
        "sex": (None, "male", "female")[number % 3],
        "image": [[0, number], [1, 2]],
        "tame": number % 2 == 0,
        "species": ("Adelie", "Gentoo")[number % 2],
    }
    for number in range(100)
]


def encoded(records: list[Any]) -> list[bytes | None]:
    return [json.dumps(record).encode() for record in records]


def drafted(records: list[Any], label: str | None = None) -> Pipeline:
    return load_pipeline(draft_pipeline("penguins", encoded(records), label).text)


def field(pipeline: Pipeline, name: str) -> Field:
    return pipeline.stream.field(name)


def test_types_shapes_gaps_and_roles_are_those_of_the_records() -> None:
    draft = draft_pipeline("penguins", encoded(PENGUINS))
    pipeline = load_pipeline(draft.text)
    assert draft.rejected == {}
    assert [(one.name, one.type, one.role) for one in pipeline.stream.fields] == [
        ("id", "string", "id"),
        ("island", "string", "feature"),
        ("bill", "float32", "feature"),
        ("mass", "int64", "feature"),
        ("sex", "string", "feature"),
        ("image", "float32", "feature"),
        ("tame", "bool", "feature"),
        ("species", "string", "label"),
    ]
    assert {one.name for one in pipeline.stream.fields if one.nullable} == {"mass", "sex"}
    assert field(pipeline, "image").shape == (2, 2)
    assert pipeline.stream.key == "id"
    assert pipeline.train.task == "classification"


def test_transforms_fill_encode_and_scale() -> None:
    pipeline = drafted(PENGUINS)
    transforms = {name: transform.plain() for name, transform in pipeline.prepare.transform.items()}
    assert transforms == {
        "island": {"encode": "onehot"},
        "bill": {"scale": "standard"},
        "mass": {"impute": "median", "scale": "standard"},
        "sex": {"impute": "mostFrequent", "encode": "onehot"},
        "image": {"scale": "standard"},
        "tame": {"scale": "none"},
    }
    assert pipeline.prepare.clean.missing == "keep"


def test_comments_say_what_was_seen_and_what_was_guessed() -> None:
    text = draft_pipeline("penguins", encoded(PENGUINS)).text
    assert text.startswith("# yaml-language-server: $schema=pipeline.schema.json\n")
    lines = {line.partition("name: ")[2].partition(",")[0]: line for line in text.splitlines() if "- {name" in line}
    assert lines["bill"].endswith("# 30 to 42.375")
    assert lines["island"].endswith("# Dream 34, Biscoe 33, Torgersen 33")
    assert lines["mass"].endswith("# 3001 to 3099; missing in 5 of 100")
    assert lines["id"].endswith("# guessed: unique in the sample")
    assert lines["species"].endswith("# guessed: the last field with few values (2); Adelie 50, Gentoo 50")
    assert lines["tame"].endswith("# true 50, false 50")


def test_a_label_that_is_named_is_taken() -> None:
    assert drafted(PENGUINS, "island").stream.label.name == "island"
    assert "# the label that you named" in draft_pipeline("penguins", encoded(PENGUINS), "island").text


@pytest.mark.parametrize(
    ("record", "label"),
    [
        ({"target": 0, "kind": "a"}, "target"),
        ({"is_class": 1, "kind": "b"}, "is_class"),
        ({"class": "a", "Label": 1}, "Label"),
        ({"grade": 2, "kind": "b"}, "kind"),
        ({"grade": 2, "share": 0.5}, "grade"),
        ({"kind": "b", "grade": 2, "fraud": True}, "fraud"),
        ({"fraud": True, "kind": "b", "grade": 2}, "kind"),
    ],
)
def test_the_label_is_guessed_by_its_name_then_by_its_values(record: dict[str, Any], label: str) -> None:
    other = {name: 1 - value if isinstance(value, int) else value for name, value in record.items()}
    other = {name: bool(value) if isinstance(record[name], bool) else value for name, value in other.items()}
    other |= {name: "z" for name, value in record.items() if isinstance(value, str)}
    records = [{"id": f"r{number}", **(record, other)[number % 2], "x": number * 1.5} for number in range(30)]
    assert drafted(records).stream.label.name == label


@pytest.mark.parametrize("lacks", [0, 7])
def test_one_record_without_a_field_changes_neither_order_nor_label(lacks: int) -> None:
    records = [{"id": f"r{n}", "city": "abc"[n % 3], "x": n * 1.5, "churned": "ny"[n % 2]} for n in range(200)]
    del records[lacks]["city"]
    pipeline = drafted(records)
    assert pipeline.stream.label.name == "churned"
    assert [one.name for one in pipeline.stream.fields] == ["id", "city", "x", "churned"]


def test_a_field_with_gaps_is_rather_a_feature_than_the_label() -> None:
    records = [{"id": f"r{n}", "kind": "ab"[n % 2], "x": n, "sex": (None, "m", "f")[n % 3]} for n in range(60)]
    assert drafted(records).stream.label.name == "kind"
    only = [{key: value for key, value in record.items() if key != "kind"} for record in records]
    assert drafted(only).stream.label.name == "sex"


def test_classes_that_came_as_floats_are_told_how_to_become_classes() -> None:
    records = [{"id": f"r{n}", "x": n / 3, "churned": float(n % 2)} for n in range(60)]
    text = draft_pipeline("t", encoded(records)).text
    assert load_pipeline(text).train.task == "regression"
    assert "# churned holds few whole numbers, sent as floats: for classes send 1 instead of 1.0, or texts" in text
    amounts = [record | {"churned": n / 2} for n, record in enumerate(records)]
    assert "is an amount: predictions come close to it" in draft_pipeline("t", encoded(amounts)).text


@pytest.mark.parametrize("value", [7, 1.5, "same", True, [1, 1]])
def test_what_never_changes_is_left_out_by_name(value: Any) -> None:
    records = [{"id": f"r{n}", "x": n / 3, "same": value, "class": n % 2} for n in range(60)]
    text = draft_pipeline("t", encoded(records)).text
    assert [one.name for one in load_pipeline(text).stream.features] == ["x"]
    assert "# left out: same: one value in the whole sample, nothing to learn from" in text
    few = drafted(records[:5])
    assert "same" in {one.name for one in few.stream.features}, "five records say nothing of the sixth"
    assert "same" in {one.name for one in drafted([{**records[0], "same": None}, *records]).stream.features}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("2nd", [{"a": 1}], "lists that are no arrays of numbers of one shape"),
        ("nested", {"a": ["b"]}, "lists that are no arrays of numbers of one shape"),
    ],
)
def test_what_cannot_be_read_is_left_out_by_name(name: str, value: Any, reason: str) -> None:
    records = [{"id": f"r{n}", "x": n / 3, name: value, "class": n % 2} for n in range(9)]
    name = {"2nd": "n2nd", "nested": "a"}[name]
    assert f"# left out: {name}: {reason}" in draft_pipeline("t", encoded(records)).text


def test_what_the_settings_do_stands_beside_them() -> None:
    text = draft_pipeline("t", encoded(PENGUINS)).text
    assert (
        "# Of the variants that pass, the one fastest for a single row is served; at equal speed the smaller." in text
    )
    assert "# A dataset holds the clean rows since the last one" in text


def test_an_amount_is_a_regression() -> None:
    pipeline = drafted([{"id": f"r{number}", "size": number, "price": number * 1.5} for number in range(80)])
    assert (pipeline.stream.label.name, pipeline.train.task) == ("price", "regression")
    whole = drafted([{"id": f"r{number}", "size": number / 2, "target": number} for number in range(80)])
    assert (whole.stream.label.type, whole.train.task) == ("int64", "regression")


def test_a_label_in_few_records_is_weighted() -> None:
    rare = [{"id": f"r{number}", "x": number, "class": int(number % 10 == 0)} for number in range(100)]
    even = [{"id": f"r{number}", "x": number, "class": number % 2} for number in range(100)]
    assert drafted(rare).train.class_weights == "balanced"
    assert drafted(even).train.class_weights == "none"


def test_a_name_that_repeats_is_a_group_and_nothing_is_learned_from_names() -> None:
    records = [{"id": f"r{n}", "customer_id": n // 4, "shopId": n // 9, "x": n, "class": n % 2} for n in range(90)]
    pipeline = drafted(records)
    assert [one.name for one in pipeline.stream.features] == ["x"]
    assert pipeline.stream.group is not None
    assert pipeline.stream.group.name == "customer_id"


def test_a_whole_number_that_may_name_the_records_is_pointed_out() -> None:
    records = [{"claim": number, "amount": number / 8, "fraud": number % 9 == 0} for number in range(100)]
    hint = "if it names them, its role is id"
    (line,) = (line for line in draft_pipeline("claims", encoded(records)).text.splitlines() if hint in line)
    assert "name: claim" in line
    named = [record | {"id": f"c-{record['claim']}"} for record in records]
    assert hint not in draft_pipeline("claims", encoded(named)).text


def test_rows_are_divided_by_a_value_when_nothing_names_a_record() -> None:
    records = [{"at": 1000 + number, "x": 0.5, "class": number % 2} for number in range(50)]
    pipeline = drafted(records)
    assert pipeline.stream.id is None
    assert pipeline.split_field.name == "at"


def test_a_record_sent_twice_leaves_its_id_an_id() -> None:
    assert drafted([*PENGUINS, PENGUINS[7]]).stream.id is not None


def test_times_and_free_texts_are_neither_id_nor_category() -> None:
    records = [
        {"at": f"2026-01-{1 + n % 28:02}T10:00:{n:02}Z", "n": n, "note": f"note {n * 2 // 3} of many", "class": n % 2}
        for n in range(60)
    ]
    draft = draft_pipeline("t", encoded(records))
    assert [one.name for one in load_pipeline(draft.text).stream.features] == ["n"]
    assert {one.name for one in draft.roles.left_out} == {"at", "note"}


def test_a_few_faulty_records_change_nothing_and_are_counted() -> None:
    faulty = [*encoded(PENGUINS), b"{", None, json.dumps(PENGUINS[0] | {"bill": "long"}).encode()]
    draft = draft_pipeline("penguins", faulty)
    assert load_pipeline(draft.text).stream == drafted(PENGUINS).stream
    assert draft.rejected == {"json": 2, "type": 1}
    assert "1 of another form, rejected" in draft.text


def test_a_field_of_mixed_forms_is_left_out_with_the_reason() -> None:
    records = [record | {"code": "x" if number % 3 else number} for number, record in enumerate(PENGUINS)]
    assert (
        "# left out: code: values of different forms: text 66, number 34" in draft_pipeline("t", encoded(records)).text
    )


def test_lists_nested_deeper_than_any_array_are_left_out_with_the_reason() -> None:
    deep = b"[" * 1_000 + b"]" * 1_000
    values: list[bytes | None] = [b'{"id":"r%d","class":%d,"x":%d,"deep":%s}' % (n, n % 2, n, deep) for n in range(20)]
    assert "# left out: deep: lists that are no arrays of numbers" in draft_pipeline("t", values).text


def test_large_numbers_keep_their_value() -> None:
    pipeline = drafted([{"id": n, "time": 1.7e9 + n / 2, "big": 2**63 + n, "class": n % 2} for n in range(20)])
    assert field(pipeline, "time").type == "float64"
    assert field(pipeline, "big").type == "float64"
    assert field(pipeline, "id").role == "id"


def test_texts_of_records_cannot_break_the_document() -> None:
    evil = 'a\nb: {"x"}: # \u2028 é'
    records = [{"id": f"r{n}", "class": f"{evil}{n % 2}", evil: n, "x": n} for n in range(30)]
    draft = draft_pipeline("1e3", encoded(records))
    pipeline = load_pipeline(draft.text)
    assert pipeline.stream.topic == "1e3"
    assert "é" in draft.text
    assert [one.name for one in pipeline.stream.features] == ["a_b_x_e", "x"]
    assert draft.rejected == {}


@pytest.mark.parametrize(
    ("topic", "name"), [("Shop.Orders_v2", "shop-orders-v2"), ("__", "pipeline"), ("x" * 62 + ".y", "x" * 62)]
)
def test_the_pipeline_is_named_after_its_topic(topic: str, name: str) -> None:
    pipeline = load_pipeline(draft_pipeline(topic, encoded(PENGUINS)).text)
    assert (pipeline.stream.topic, pipeline.name) == (topic, name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "got no record"),
        ([None, b""], "without a value"),
        ([b"\x00\x00\x00\x00\x01Avro"], "it begins like a record with a schema registry"),
        ([b"1,2,3"], "expected JSON objects in topic 't', got b'1,2,3'; records in Avro, Protobuf or CSV need"),
        (encoded([{"x": n, "id": n} for n in range(9)]), "beside the label 'x', got 'id': the id"),
        (
            encoded([{"x": n, "id": n, "tags": ["a"]} for n in range(9)]),
            "'id': the id; 'tags': lists that are no arrays",
        ),
        (encoded([{"x": [n]} for n in range(9)]), "name it with --label"),
        (
            encoded([{"payload": {"x": n}, "tags": ["a"]} for n in range(9)]),
            "expected a field to learn from beside the label 'x', got 'tags': lists that are no arrays of numbers",
        ),
        (encoded([{}] * 9), "expected a field that can be read, got none"),
    ],
)
def test_what_makes_no_pipeline_is_said(values: list[bytes | None], message: str) -> None:
    with pytest.raises(DraftImpossible, match=None) as raised:
        draft_pipeline("t", values)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([f"2026-05-{n % 28 + 1:02}T10:{n:02}:00Z" for n in range(60)], "a time: "),
        ([f"{n} o'clock" for n in range(60)], "free text: 60 different values. Of names that come again "),
    ],
)
def test_texts_that_are_no_categories_are_left_out_by_what_they_are(texts: list[str], reason: str) -> None:
    records = [{"id": f"r{n}", "x": n, "class": n % 2, "it": text} for n, text in enumerate(texts)]
    (left_out,) = draft_pipeline("t", encoded(records)).roles.left_out
    assert left_out.name == "it"
    assert left_out.reason.startswith(reason)


def test_the_platforms_own_topics_are_no_producers() -> None:
    with pytest.raises(DraftImpossible, match=r"names that start with 'headrace\.' belong to the platform"):
        draft_pipeline("headrace.registry.log.v1", encoded(PENGUINS))


@pytest.mark.parametrize(
    ("label", "message"),
    [("specie", "there are 'id', 'island'"), ("image", r"an array\. Of a list ")],
)
def test_a_label_that_cannot_be_one_is_refused(label: str, message: str) -> None:
    with pytest.raises(DraftImpossible, match=message):
        draft_pipeline("penguins", encoded(PENGUINS), label)


NAMES = st.from_regex(FIELD_NAME, fullmatch=True) | st.text(string.printable + "é…\u2028", min_size=1, max_size=8)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def columns_of(kind: str, rows: int) -> st.SearchStrategy[list[Any]]:
    values: st.SearchStrategy[Any] = {
        "whole": st.integers(-(2**63), 2**63 - 1),
        "small": st.integers(0, 3),
        "number": NUMBERS,
        "text": st.text(max_size=5),
        "category": st.sampled_from(["a", "b", "null", "1", "é\n"]),
        "array": st.lists(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=2), min_size=3, max_size=3),
        "bool": st.booleans(),
        "object": st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    }[kind]
    return st.lists(values, min_size=rows, max_size=rows)


@st.composite
def samples(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records in which each field has one kind of values, with gaps."""
    rows = draw(st.integers(1, 30))
    kinds = st.sampled_from(["whole", "small", "number", "text", "category", "array", "bool", "object"])
    table = {name: draw(columns_of(draw(kinds), rows)) for name in draw(st.lists(NAMES, max_size=6, unique=True))}
    gaps = {name: draw(st.sets(st.integers(0, rows - 1), max_size=3)) for name in table}
    table |= {"row": list(range(rows)), "x": [0.5] * rows, "answer": [row % 2 for row in range(rows)]}
    records: list[dict[str, Any]] = []
    for row in range(rows):
        present = {name: values[row] for name, values in table.items() if row not in gaps.get(name, ())}
        nulls = {name: None for name, places in gaps.items() if row in places and draw(st.booleans())}
        records.append(present | {name: None for name in nulls if name not in present})
    return records


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(samples())
def test_whatever_the_records_the_draft_loads_and_takes_them(records: list[dict[str, Any]]) -> None:
    values = encoded(records)
    draft = draft_pipeline("topic", values, "answer")
    pipeline = load_pipeline(draft.text)
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    assert draft.rejected == {}
    assert checked.batch.num_rows == len(values)
    known = {one.name for one in pipeline.stream.fields} | {one.name for one in draft.roles.left_out}
    assert draft.selects or known == set().union(*records)


def is_no_object(value: bytes) -> bool:
    """Tell whether a value is no record; one without a field, such as {}, leaves nothing to divide the rows by."""
    try:
        return not isinstance(json.loads(value), dict)
    except ValueError:
        return True


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(samples(), st.lists(st.binary(max_size=12).filter(is_no_object) | st.none(), max_size=3))
@example([{"row": 0, "x": 0.5, "answer": 0}], [b"{]", b"[]", b"0", None])
def test_faults_are_counted_as_the_pipeline_will_count_them(
    records: list[dict[str, Any]], faults: list[bytes | None]
) -> None:
    values = [*faults, *encoded(records)]
    draft = draft_pipeline("topic", values)
    checked = RecordChecker(load_pipeline(draft.text).stream).check(values, [0] * len(values), range(len(values)))
    assert sum(draft.rejected.values()) == len(checked.rejected)
