"""What changed between two sets of rows, and what chance alone makes of them."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from headrace_data import sketch_files
from headrace_data.drift import (
    FALSE_ALARMS,
    LEAST_ROWS,
    Change,
    FieldDrift,
    chi_square_bound,
    drift,
    index_of_counts,
    index_of_values,
    worst,
)
from headrace_data.records import RecordChecker
from headrace_data.sketches import Sketch, Values
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import assign_splits
from headrace_data.spread import MOST_ELEMENTS, Spread

WEATHER = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: weather}
stream:
  topic: weather
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: wind, type: float64, role: feature, nullable: true}
    - {name: rain, type: float32, shape: [3], role: feature}
    - {name: sky, type: string, role: feature, nullable: true}
    - {name: storm, type: bool, role: label}
prepare:
  clean: {missing: keep}
  transform: {wind: {impute: mean}, sky: {encode: onehot, impute: {constant: none}}}
train:
  network: {kind: mlp}
"""
Floats = npt.NDArray[np.float64]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def weather() -> Pipeline:
    return load_pipeline(WEATHER)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def rows_of(rng: np.random.Generator, count: int, **changed: Any) -> list[Row]:
    winds, skies = rng.normal(20, 5, count), rng.choice(["clear", "grey", "black"], count, p=[0.5, 0.3, 0.2])
    rain, storms = rng.exponential(2, (count, 3)), rng.random(count) < 0.2
    return [
        {"wind": winds[at], "rain": rain[at].tolist(), "sky": str(skies[at]), "storm": bool(storms[at]), **changed}
        for at in range(count)
    ]


def sketched(pipeline: Pipeline, rows: list[Row], start: int = 0) -> Sketch:
    values = [json.dumps({"id": str(start + at), **row}).encode() for at, row in enumerate(rows)]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(start, start + len(values)))
    assert not checked.rejected
    sketch = Sketch(pipeline)
    splits = assign_splits(checked.batch.column("id"), pipeline.prepare.split)
    sketch.add(checked.batch, 0, splits)
    return sketch


def counted(counts: npt.NDArray[np.int64]) -> dict[int, int]:
    return dict(enumerate(counts.tolist()))


def by_field(drifts: tuple[FieldDrift, ...]) -> dict[str, FieldDrift]:
    return {each.field: each for each in drifts}


def test_rows_of_one_distribution_have_not_drifted(weather, rng):
    found = drift(sketched(weather, rows_of(rng, 600)), sketched(weather, rows_of(rng, 400), 600))
    assert [each.field for each in found] == ["wind", "rain", "sky", "storm"]
    assert not any(each.has_drifted(0.0) for each in found)
    assert all(each.index.excess < 0.05 for each in found)
    assert [each.rows for each in found] == [(600, 400)] * 4


def test_each_field_that_drifted_is_told_apart_from_the_others(weather, rng):
    after = rows_of(rng, 400)
    for row in after:
        row["wind"] += 5
        row["sky"] = "black"
        row["rain"] = [1_000 * each for each in row["rain"]]
    found = by_field(drift(sketched(weather, rows_of(rng, 600)), sketched(weather, after, 600)))
    assert {name for name, each in found.items() if each.has_drifted(0.2)} == {"wind", "rain", "sky"}
    assert found["wind"].median == pytest.approx((20, 25), abs=1)
    assert found["wind"].scale.factor == pytest.approx(1, abs=0.4)
    assert 800 < found["rain"].scale.factor < 1200
    assert worst(tuple(found.values())).field == "rain"


def test_what_is_missing_is_counted_exactly_and_has_no_part_in_the_rest(weather, rng):
    before, after = rows_of(rng, 100), [*rows_of(rng, 60), *rows_of(rng, 40, wind=None, sky=" ")]
    found = by_field(drift(sketched(weather, before), sketched(weather, after, 100)))
    assert found["wind"].missing == (0, 0.4) == found["sky"].missing
    assert found["wind"].rows == (100, 60) == found["sky"].rows
    assert not found["wind"].has_drifted(0.0)


def test_of_few_rows_nothing_is_told_but_what_is_missing(weather, rng):
    found = drift(sketched(weather, rows_of(rng, 500)), sketched(weather, rows_of(rng, LEAST_ROWS - 1), 500))
    assert all(each.index is None and each.scale is None and each.missing == (0, 0) for each in found)
    assert worst(found) is None


def test_sketches_merge_and_are_kept_with_how_numbers_are_spread(weather, rng):
    rows = rows_of(rng, 300)
    whole, merged = sketched(weather, rows), sketched(weather, rows[:200])
    merged.merge(sketched(weather, rows[200:], 200))
    kept = sketch_files.from_bytes(sketch_files.to_bytes(merged), weather)
    for name in ("wind", "rain"):
        values = [np.sort(each.spread.of(name), axis=0) for each in (whole, merged, kept)]
        np.testing.assert_array_equal(values[0], values[1])
        np.testing.assert_array_equal(values[0], values[2])
    empty = sketch_files.from_bytes(sketch_files.to_bytes(Sketch(weather)), weather)
    assert empty.spread.of("rain").shape == (0, 3)


def test_of_sketches_of_before_only_texts_and_classes_are_compared(weather, rng):
    sketch, after = sketched(weather, rows_of(rng, 300)), sketched(weather, rows_of(rng, 300), 300)
    sketch.spread = None
    old = sketch_files.from_bytes(sketch_files.to_bytes(sketch), weather)
    assert old.spread is None
    assert sketch_files.from_bytes(sketch_files.to_bytes(after), weather, spread=False).spread is None
    assert [each.field for each in drift(old, after)] == ["sky", "storm"]
    after.merge(old)
    assert after.spread is None


def test_a_spread_of_other_fields_is_no_sketch(weather, mixed, rng):
    data = sketch_files.to_bytes(sketched(weather, rows_of(rng, 50)))
    spread = Spread(mixed)
    with pytest.raises(ValueError, match="expected a sample of 8 columns"):
        spread.settle(5, *sketch_files.from_bytes(data, weather).spread.sample.kept(50)[1:])


def test_a_spread_is_bounded_and_takes_the_same_rows_in_any_order(rng):
    pipeline = load_pipeline(WEATHER.replace("shape: [3]", "shape: [16, 16]"))
    fields = pipeline.stream.fields
    count = 12_000
    table = {
        "id": pa.array([str(at) for at in range(count)]),
        "wind": pa.array(np.arange(count, dtype=np.float64)),
        "rain": pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(np.arange(count, dtype=np.float32), 256)), 256),
        "_partition": pa.array(np.zeros(count, np.int32)),
        "_offset": pa.array(np.arange(count)),
        "_index": pa.array(np.zeros(count, np.int32)),
    }
    batch = pa.RecordBatch.from_pydict(table)
    one, other = Spread(pipeline), Spread(pipeline)
    one.add(batch)
    for start in (9_000, 0, 6_000, 3_000):
        other.add(batch.slice(start, 3_000))
    assert len(fields) == 5
    assert one.of("rain").shape == (2**14 // (MOST_ELEMENTS + 1), MOST_ELEMENTS)
    np.testing.assert_array_equal(np.sort(one.of("wind"), axis=0), np.sort(other.of("wind"), axis=0))
    assert np.median(one.of("wind")) == pytest.approx(count / 2, rel=0.1)


@pytest.mark.parametrize(("before", "after"), [(200, 200), (200, 100_000), (100_000, 100_000), (1_000, 200)])
def test_chance_is_taken_off_whatever_the_number_of_rows(before, after, rng):
    """What chance gives is on average that of the distribution with so many degrees of freedom."""
    many = 40 if before + after < 50_000 else 8
    found = [index_of_values(rng.normal(size=(before, 1)), rng.normal(size=(after, 1))) for _ in range(many)]
    spare = 4 * found[0].chance / np.sqrt(many * 9 / 2)
    assert np.mean([each.value for each in found]) == pytest.approx(found[0].chance, abs=spare)
    assert sum(each.value > each.bound for each in found) <= 1


def test_one_cut_in_two_hundred_gives_a_false_alarm_at_most(rng):
    cuts, fields, alarms = 1_000, 10, 0
    shares = rng.multinomial(300, [0.3, 0.3, 0.2, 0.1, 0.07, 0.03], (2, cuts, fields))
    for cut in range(cuts):
        found = [
            index_of_counts(counted(shares[0, cut, at]), counted(shares[1, cut, at]), FALSE_ALARMS / fields)
            for at in range(fields)
        ]
        alarms += any(each.value > each.bound for each in found)
    assert alarms <= cuts / 200


def test_half_a_deviation_is_found_in_five_hundred_rows(rng):
    found = [
        index_of_values(rng.normal(size=(500, 1)), rng.normal(0.5, 1, (500, 1)), FALSE_ALARMS / 10) for _ in range(20)
    ]
    assert all(FieldDrift("x", (500, 500), Change(0, 0), each).has_drifted(0.05) for each in found)
    assert np.mean([each.excess for each in found]) == pytest.approx(0.24, abs=0.05)


def test_an_index_is_the_same_in_both_directions_and_zero_of_the_same_rows(rng):
    one, other = {"a": 300, "b": 200}, {"a": 90, "b": 210}
    forth, back = index_of_counts(one, other), index_of_counts(other, one)
    assert forth.value == pytest.approx(back.value)
    assert forth.chance == pytest.approx(back.chance)
    assert index_of_counts(one, one).value == 0
    assert index_of_counts(one, {"a": 600, "b": 400}).value == pytest.approx(0, abs=1e-5)
    values = rng.normal(size=(500, 3))
    assert index_of_values(values, values).value == 0


def test_rare_values_are_put_together_so_that_none_alone_raises_an_alarm():
    before = {-1: 700, **dict.fromkeys(range(300), 1)}
    after = {-1: 700, **dict.fromkeys(range(300, 600), 1)}
    found = index_of_counts(before, after)
    assert found.value == 0
    assert found.chance == pytest.approx(2 / 1_000)


def test_what_was_constant_has_no_index_until_it_changes():
    fives = np.full((100, 1), 5.0)
    assert index_of_values(fives, fives) == (0, 0, 0)
    changed = index_of_values(fives, np.full((100, 1), 6.0))
    assert changed.value > 5
    assert changed.value > changed.bound


@pytest.mark.parametrize(
    ("before", "after", "factor"),
    [
        (2, 20, 10),
        (20, 2, 10),
        (-2, 20, 10),
        (3, 3, 1),
        (0, 0, 1),
        (0, 4, np.inf),
        (4, 0, np.inf),
        (1e-300, 1e300, np.inf),
    ],
)
def test_a_factor_is_the_same_up_and_down(before, after, factor):
    assert Change(before, after).factor == pytest.approx(factor)


@pytest.mark.parametrize(
    ("freedom", "beyond", "exact"), [(1, 0.005, 7.879), (9, 0.0005, 29.666), (9, 0.005, 23.589), (99, 0.0001, 158.10)]
)
def test_the_bound_of_chi_square_is_that_of_tables(freedom, beyond, exact):
    assert chi_square_bound(freedom, beyond) == pytest.approx(exact, rel=0.02)


def test_missing_texts_are_counted_also_when_there_are_too_many_to_count():
    values = Values("note", 1)
    batch = pa.RecordBatch.from_pydict(
        {"note": ["a", "b", None, " "], "_partition": pa.array([0] * 4, pa.int32()), "_offset": [0, 1, 2, 3]}
    )
    values.add(batch)
    values.add(batch)
    assert values.beyond
    assert values.missing == 4
