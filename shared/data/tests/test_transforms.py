import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.fitting import fit
from headrace_data.records import RecordChecker
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline, parse_canonical
from headrace_data.transforms import FittedTransforms


def batch_of(
    pipeline: Pipeline, images: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64] | None = None
) -> pa.RecordBatch:
    amounts = np.zeros(len(images)) if amounts is None else amounts
    values = [
        json.dumps({"id": "a", "team": 1, "image": image.reshape(-1).tolist(), "amount": amount, "age": 7}).encode()
        for image, amount in zip(images, amounts.tolist(), strict=True)
    ]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    return checked.batch


def fitted_on(pipeline: Pipeline, *batches: pa.RecordBatch) -> FittedTransforms:
    sketch = Sketch(pipeline)
    for batch in batches:
        sketch.add(batch, 0, np.zeros(len(batch), np.int8))
    return fit(sketch.sides["train"], pipeline)


def test_standard_has_mean_zero_and_deviation_one(mixed: Pipeline) -> None:
    images = np.random.default_rng(1).normal(3, 2, (500, 2, 3)).astype(np.float32).astype(np.float64)
    images[:, 0, 0] = np.float32(0.1)

    fitted = fitted_on(mixed, batch_of(mixed, images))["image"]
    scaled = fitted.apply(images)

    assert fitted.kind == "standard"
    assert fitted.offset.shape == fitted.scale.shape == (2, 3)
    np.testing.assert_allclose(fitted.offset, images.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(fitted.scale[0, 1:], images.std(axis=0)[0, 1:], rtol=1e-7)
    assert fitted.scale[0, 0] == 1.0
    assert scaled.dtype == np.float32
    assert (scaled[:, 0, 0] == 0).all()
    np.testing.assert_allclose(scaled.std(axis=0)[1], 1, rtol=1e-5)


def test_minmax_reaches_from_zero_to_one(mixed: Pipeline) -> None:
    amounts = np.array([5.0, 10.0, 7.5])

    fitted = fitted_on(mixed, batch_of(mixed, np.zeros((3, 6)), amounts))["amount"]

    assert fitted.apply(amounts).tolist() == [0, 1, 0.5]
    constant = fitted_on(mixed, batch_of(mixed, np.zeros((3, 6)), np.full(3, 5.0)))["amount"]
    assert constant.apply(np.array([5.0, 6.0])).tolist() == [0, 1]


def test_a_feature_without_a_transform_stays_as_it_is(mixed: Pipeline) -> None:
    fitted = fitted_on(mixed, batch_of(mixed, np.zeros((1, 6))))

    assert fitted["age"].kind == "none"
    assert fitted["age"].apply(np.array([0, 255], dtype=np.uint8)).tolist() == [0, 255]
    assert [feature.name for feature in fitted.features] == ["image", "amount", "age"]
    with pytest.raises(KeyError):
        fitted["kind"]
    columns: dict[str, Any] = {"image": np.zeros((4, 2, 3)), "amount": np.zeros(4), "age": np.zeros(4, dtype=np.uint8)}
    assert {name: fitted[name].apply(column).shape for name, column in columns.items()} == {
        "image": (4, 2, 3),
        "amount": (4,),
        "age": (4,),
    }
    assert fitted.apply(columns).shape == (4, fitted.width) == (4, 8)


def test_json_keeps_every_bit(mixed: Pipeline) -> None:
    fitted = fitted_on(mixed, batch_of(mixed, np.random.default_rng(2).normal(0, 1, (9, 6))))

    again = FittedTransforms.from_plain(json.loads(json.dumps(fitted.to_plain())))

    assert again == fitted
    assert hash(again) == hash(fitted)
    assert again["image"].scale.tobytes() == fitted["image"].scale.tobytes()


def test_nothing_to_fit_on_is_an_error(mixed: Pipeline) -> None:
    with pytest.raises(DatasetUnusable, match="split train"):
        fitted_on(mixed)


def test_values_too_large_to_scale_are_an_error(mixed: Pipeline) -> None:
    document = json.loads(mixed.canonical_json())
    document["prepare"]["transform"]["amount"] = {"scale": "standard"}
    pipeline = parse_canonical(json.dumps(document).encode())
    # Larger ones are rejected where they are read, and these where they are cleaned.
    batch = batch_of(pipeline, np.zeros((2, 6)), np.array([-1e250, 1e250]))

    with pytest.raises(DatasetUnusable, match="'amount' that can be scaled"):
        fitted_on(pipeline, batch)


@pytest.mark.parametrize(
    "change", [{"kind": "logarithm"}, {"scale": [0.0]}, {"offset": [1, 2]}, {"offset": ["x"]}, {"shape": None}]
)
def test_transforms_that_cannot_be_read_are_refused(change: dict[str, object]) -> None:
    good = {"name": "x", "kind": "minmax", "shape": [], "offset": [0.0], "scale": [1.0]}
    FittedTransforms.from_plain([good])

    with pytest.raises(ManifestInvalid):
        FittedTransforms.from_plain([good | change])
