"""What each kind of transform makes of a feature, by hand and beside scikit-learn."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pydantic
import pytest
from headrace_data.cleaning import squared_fields
from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.fitting import fit
from headrace_data.records import RecordChecker
from headrace_data.sketches import MAX_CATEGORIES, Sketch
from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline
from headrace_data.spec.transform import Buckets
from headrace_data.transforms import Fitted, FittedText, FittedTransforms
from headrace_data.transforms.hashing import murmur3
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils import murmurhash3_32

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: kinds}}
stream:
  topic: kinds
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: x, type: {type}, role: feature{more}}}
    - {{name: y, type: string, role: label}}
prepare:
  clean: {{missing: keep}}
  transform:
    x: {{{choice}}}
train: {{network: {{kind: mlp}}}}
"""


def pipeline_of(choice: str, element: str = "float64", more: str = "") -> Pipeline:
    return load_pipeline(DOCUMENT.format(choice=choice, type=element, more=more))


def fitted(pipeline: Pipeline, values: Sequence[Any]) -> Fitted:
    rows = [json.dumps({"id": place, "x": value, "y": "a"}).encode() for place, value in enumerate(values)]
    checked = RecordChecker(pipeline.stream).check(rows, [0] * len(rows), range(len(rows)))
    assert checked.rejected == []
    sketch = Sketch(pipeline)
    sketch.add(checked.batch, 0, np.zeros(len(checked.batch), np.int8))
    return fit(sketch.sides["train"], pipeline)["x"]


def texts(choice: str, values: Sequence[str | None]) -> Fitted:
    nullable = ", nullable: true" if "impute" in choice else ""
    return fitted(pipeline_of(choice, "string", nullable), values)


CITIES = ["Oslo"] * 6 + ["Rome"] * 3 + ["Ulm"] * 3 + ["Lund"] * 2 + ["Bern"]


@pytest.mark.parametrize(
    ("limits", "told_apart"),
    [
        ("maxCategories: 2", ["Oslo", "Rome"]),
        ("minCount: 3", ["Oslo", "Rome", "Ulm"]),
        ("minCount: 3, maxCategories: 1", ["Oslo"]),
        ("minCount: 100", ["Oslo"]),
    ],
)
def test_rare_categories_share_a_place_with_those_to_come(limits: str, told_apart: list[str]) -> None:
    onehot = texts(f"encode: {{kind: onehot, {limits}}}", CITIES)
    ordinal = texts(f"encode: {{kind: ordinal, {limits}}}", CITIES)

    applied = onehot.apply(np.array([*told_apart, "Bern", "Paris"], object))
    assert applied.tolist() == [*np.eye(len(told_apart) + 1).tolist(), [0.0] * len(told_apart) + [1.0]]
    count = len(told_apart)
    assert ordinal.apply(np.array([*told_apart, "Bern", "Paris"], object)).tolist() == [*range(count), count, count]
    assert onehot.to_plain()["rare"] is True


def test_where_nothing_is_rare_there_is_no_place_for_it() -> None:
    everything = texts("encode: {kind: onehot, maxCategories: 5}", CITIES)

    assert everything == texts("encode: onehot", CITIES)
    assert everything.apply(np.array(["Paris"], object)).tolist() == [[0.0] * 5]


def test_what_fills_gaps_counts_with_them() -> None:
    filled = texts("impute: {constant: none}, encode: {kind: onehot, minCount: 4}", [*CITIES, *([None] * 4)])
    rare = texts("impute: {constant: none}, encode: {kind: onehot, minCount: 5}", [*CITIES, *([None] * 4)])

    assert filled.to_plain()["categories"] == ["Oslo", "none"]
    assert filled.apply(np.array(["", "Ulm"], object)).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert rare.apply(np.array(["", "Oslo"], object)).tolist() == [[0, 1], [1, 0]]


def test_many_categories_need_a_limit_or_a_hash() -> None:
    many = [f"user {place // 2}" for place in range(2 * MAX_CATEGORIES + 2)] + ["user 3"]

    with pytest.raises(DatasetUnusable, match=r"maxCategories: 50\} puts the rare ones together, and hash"):
        texts("encode: onehot", many)
    assert texts("encode: {kind: onehot, maxCategories: 4}", many).to_plain()["categories"][-1] == "user 3"
    assert texts("encode: hash", many).width == 32
    with pytest.raises(DatasetUnusable, match=r"impute: \{constant: unknown\} needs no counts"):
        texts("impute: mostFrequent, encode: hash", many)


@pytest.mark.parametrize("fill", [None, "none"])
def test_hashes_are_those_of_others(fill: str | None) -> None:
    words = ["a", "ab", "abc", "abcd", "abcde", "grün", "😀" * 40, "zero\0inside", "x" * 1000]

    assert murmur3([word.encode() for word in ["", *words]]).tolist() == [
        murmurhash3_32(word.encode(), 0, positive=True) for word in ["", *words]
    ]
    found = texts(f"{f'impute: {{constant: {fill}}}, ' if fill else ''}encode: {{kind: hash, inputs: 11}}", words)
    places = found.apply(np.array([*words, ""], object)).argmax(axis=1)
    expected = [murmurhash3_32(word.encode(), 0, positive=True) % 11 for word in [*words, fill or ""]]
    assert places.tolist() == expected


@pytest.mark.parametrize("kind", ["onehot", "ordinal", "hash", "{kind: onehot, maxCategories: 2}"])
def test_codes_of_a_column_become_what_its_texts_do(kind: str) -> None:
    found = texts(f"impute: {{constant: none}}, encode: {kind}", [*CITIES, None])
    assert isinstance(found, FittedText)
    column = pa.array(["Oslo", None, " ", "Bern", "Paris", ""])

    codes = found.codes_of(column)

    assert codes.dtype == np.int64
    expected = found.apply(np.array(["Oslo", "", "", "Bern", "Paris", ""], object))
    np.testing.assert_array_equal(found.apply(codes), expected)


def test_log_is_of_the_size_and_keeps_the_sign() -> None:
    values = [0.0, 1.0, -1.0, 10.0, 1e6, -1e9]
    logs = np.sign(values) * np.log1p(np.abs(values))

    applied = fitted(pipeline_of("scale: log"), values).apply(np.array(values))

    np.testing.assert_allclose(applied, (logs - logs.mean()) / logs.std(), rtol=1e-6)


def test_winsorize_cuts_tails_off_before_it_scales() -> None:
    values = [*range(1, 100), 1e9]
    low, high = np.quantile(values, [0.05, 0.95])
    cut = np.clip(values, low, high)
    pipeline = pipeline_of("scale: {kind: winsorize, low: 0.05, high: 0.95}")

    applied = fitted(pipeline, values).apply(np.array([1e12, -np.inf, 50.0]))

    np.testing.assert_allclose(applied, (np.array([high, low, 50.0]) - cut.mean()) / cut.std(), rtol=1e-6)
    assert squared_fields(pipeline) == ("x",)


@pytest.mark.parametrize(("to", "largest"), [("uniform", 0.01), ("normal", 0.05)])
def test_ranks_are_those_of_scikit_learn(to: str, largest: float) -> None:
    random = np.random.default_rng(3)
    values = np.round(random.lognormal(2, 1, 3000), 1)
    values[:900] = 0.0
    theirs = QuantileTransformer(n_quantiles=101, output_distribution=to, subsample=None).fit(values[:, np.newaxis])

    applied = fitted(pipeline_of(f"scale: {{kind: quantile, to: {to}}}"), values.tolist()).apply(values)

    expected = theirs.transform(values[:, np.newaxis])[:, 0]
    # They take what many rows have for the lowest or highest where it is at an end; here it is in the middle.
    inner = (np.abs(expected) < 2.3) & (values > 0)
    assert np.abs(applied - expected)[inner].max() < largest
    middle = {"uniform": 0.15, "normal": -1.0364}[to]
    assert applied[values == 0] == pytest.approx(middle, abs=0.05)


def test_a_number_that_never_changes_has_a_rank_and_a_bucket() -> None:
    for choice in ("scale: quantile", "encode: buckets"):
        constant = fitted(pipeline_of(choice), [7.0] * 20)
        assert np.isfinite(constant.apply(np.array([6.0, 7.0, 1e300]))).all()


def test_buckets_hold_about_as_many_rows_each() -> None:
    values = np.arange(1000.0) ** 3
    found = fitted(pipeline_of("encode: {kind: buckets, count: 4}"), values.tolist())

    assert found.apply(values).sum(axis=0).tolist() == [250.0] * 4
    told = fitted(pipeline_of("encode: {kind: buckets, edges: [0, 10.5]}"), [1.0])
    assert told.apply(np.array([-1.0, 0.0, 10.0, 10.5, np.inf])).argmax(axis=1).tolist() == [0, 1, 1, 2, 2]
    few = fitted(pipeline_of("encode: buckets"), [0.0] * 90 + [1.0] * 10)
    assert few.apply(np.array([0.0, 1.0])).tolist() == [[1, 0], [0, 1]]


def test_a_cycle_ends_where_it_begins() -> None:
    found = fitted(pipeline_of("encode: {kind: cyclic, periods: [86400, 604800]}", "int64"), [1])
    monday = 1_700_438_400  # 2023-11-20T00:00Z

    applied = found.apply(np.array([monday, monday + 86_399, monday + 21_600, monday + 604_800]))

    assert applied.shape == (4, 4)
    np.testing.assert_allclose(applied[0, [0, 2]], applied[1, [0, 2]], atol=1e-4)
    np.testing.assert_allclose(applied[2, [0, 2]], [1, 0], atol=1e-4)
    np.testing.assert_allclose(applied[3], applied[0], atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "element", "problem"),
    [
        ("encode: hash", "float64", "expected hash on string features only, got it on 'x' of float64"),
        (
            "encode: buckets",
            "string",
            "expected onehot, ordinal, hash, target or text for the string feature 'x', got buckets",
        ),
        ("encode: buckets, scale: log", "float64", "expected encode or scale, got both"),
        ("encode: {kind: buckets, edges: [2, 1]}", "float64", r"expected rising numbers, got \[2, 1\]"),
        (f"encode: {{kind: buckets, edges: [{2**53}, {2**53 + 1}]}}", "float64", r"expected rising numbers, got \[9"),
        ("encode: {kind: cyclic}", "float64", "required, but not there"),
        ("encode: {kind: cyclic, periods: [0]}", "float64", "expected to be greater than 0|greater than 0"),
        ("encode: {kind: onehot, maxCategorys: 3}", "string", "unknown key; expected one of .*maxCategories"),
        ("scale: logarithm", "float64", "expected standard, minmax, robust, none, log, winsorize or quantile"),
        ("scale: log", "string", "expected scale on numbers only"),
    ],
)
def test_a_spec_that_asks_for_what_cannot_be_is_told(choice: str, element: str, problem: str) -> None:
    with pytest.raises(SpecInvalid, match=problem):
        pipeline_of(choice, element)


@pytest.mark.parametrize("kind", ["scale: quantile", "encode: buckets", "encode: {kind: cyclic, periods: [1]}"])
def test_arrays_have_no_place(kind: str) -> None:
    with pytest.raises(SpecInvalid, match=r"on single numbers, got it on 'x' of shape \[3\]"):
        pipeline_of(kind, more=", shape: [3]")


def test_old_specs_keep_their_digests() -> None:
    plain = pipeline_of("scale: standard").prepare.transform["x"].plain()

    assert plain == {"scale": "standard"}
    assert pipeline_of("encode: onehot", "string").prepare.transform["x"].plain() == {"encode": "onehot"}


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "log", "shape": [], "offset": [0.0], "scale": [0.0]},
        {"kind": "winsorize", "shape": [], "offset": [0.0], "scale": [1.0]},
        {"kind": "winsorize", "shape": [], "offset": [0.0], "scale": [1.0], "low": [2.0], "high": [1.0]},
        {"kind": "quantile", "values": [1.0, 1.0], "levels": [0.0, 1.0]},
        {"kind": "quantile", "values": [1.0], "levels": [0.0]},
        {"kind": "buckets", "edges": []},
        {"kind": "buckets", "edges": [2.0, 1.0]},
        {"kind": "cyclic", "periods": [0.0]},
        {"kind": "cyclic", "periods": ["day"]},
        {"encode": "hash", "inputs": 1},
        {"encode": "hash", "inputs": "2"},
        {"encode": "onehot", "categories": ["a"], "rare": 1},
        {"kind": "unheard of"},
        {},
    ],
)
def test_fits_that_cannot_be_read_are_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid, match="expected"):
        FittedTransforms.from_plain([{"name": "x"} | broken])


def test_a_number_that_no_double_can_hold_is_refused_wherever_a_spec_comes_from() -> None:
    with pytest.raises(pydantic.ValidationError, match="expected a number that a double can hold"):
        Buckets(kind="buckets", edges=(1, 10**400))
