"""Predictions row by row: what the model of a pipeline answers, taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from headrace_client.errors import AnswerInvalid, Rejected, RowProblem, RowsInvalid
from headrace_client.inference import InferenceClient, InferenceResult
from headrace_client.tensors import Array, TensorSpec, arrays_from_rows

LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"
_MOST_COMPARED = 100
"""Unknown fields that are compared with the inputs."""


@dataclass(frozen=True)
class Prediction:
    """The answer to one row. `row` counts from 1; label, probabilities and prediction are None when there is none."""

    row: int
    label: Any
    probability: float | None
    """Of the label, which a threshold may make another than the likeliest; the highest where the server does not say
    which is which."""
    probabilities: tuple[float, ...] | None
    model: str
    version: str
    variant: str | None
    prediction_id: str
    cached: bool
    outputs: dict[str, Any]
    """Every other output of the model, as JSON values; by what its places stand for where the server says it."""
    prediction: float | None = None
    """The number that a regression predicts, in the label's unit."""


def predict_rows(
    client: InferenceClient,
    model: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch: int = 1,
    inputs: Sequence[TensorSpec] | None = None,
) -> list[Prediction]:
    """Predict rows of JSON values, `batch` rows in each call, and return one prediction for each row.

    Nothing is sent before every row was found to fit. `inputs` are the model's, where the caller has asked for them.
    Raises RowsInvalid with every problem of every row.
    """
    inputs = client.inputs(model) if inputs is None else inputs
    predictions: list[Prediction] = []
    told: dict[str, dict[str, TensorSpec]] = {}
    for arrays in _checked_batches(rows, inputs, batch):
        result = client.infer(model, arrays)
        if result.version not in told:
            told[result.version] = _outputs(client, result)
        predictions += _taken_apart(result, len(predictions) + 1, _rows_in(arrays), told[result.version])
    return predictions


def predictions_of(client: InferenceClient, result: InferenceResult, rows: int) -> list[Prediction]:
    """Return the predictions in an answer to so many rows. Raises AnswerInvalid for one to others."""
    return _taken_apart(result, 1, rows, _outputs(client, result)) if rows else []


def place_of(label: Any, probabilities: Array, labels: Sequence[str]) -> int:
    """Return the place of a label among its probabilities, [labels]; that of the highest where it is not known."""
    return labels.index(str(label)) if str(label) in labels[: len(probabilities)] else int(np.argmax(probabilities))


def _outputs(client: InferenceClient, result: InferenceResult) -> dict[str, TensorSpec]:
    """Return what the version that answered tells of its outputs, by name."""
    if all(array.ndim < 2 for array in result.outputs.values()):
        return {}
    try:
        outputs = client.metadata(result.model, result.version).outputs
    except Rejected:  # a version that is served no more, or a server that has no versions
        return {}
    return {output.name: output for output in outputs}


def unknown_fields(rows: Sequence[Mapping[str, Any]], inputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Return the fields that are no input, each with the input that was probably meant; empty where none was.

    Only an input that the row lacks can have been meant.
    """
    names = [tensor.name for tensor in inputs]
    known, found = set(names), dict[str, str]()
    for row in rows:
        for name in [one for one in row if one not in known and one not in found]:
            # Rows whose fields are all different would take long to compare with wide models.
            lacking = [one for one in names if one not in row] if len(found) < _MOST_COMPARED else []
            found[name] = next(iter(get_close_matches(name, lacking, n=1)), "")
    return found


def _checked_batches(
    rows: Sequence[Mapping[str, Any]], inputs: Sequence[TensorSpec], batch: int
) -> list[dict[str, Array]]:
    batches: list[dict[str, Array]] = []
    problems: list[RowProblem] = []
    for start in range(0, len(rows), batch):
        try:
            batches.append(arrays_from_rows(rows[start : start + batch], inputs))
        except RowsInvalid as error:
            problems += [RowProblem(start + found.row, found.field, found.message) for found in error.problems]
    if problems:
        raise RowsInvalid(problems)
    return batches


def _rows_in(arrays: Mapping[str, Array]) -> int:
    return next((len(array) for array in arrays.values()), 0)


def _taken_apart(
    result: InferenceResult, first_row: int, count: int, told: Mapping[str, TensorSpec]
) -> list[Prediction]:
    for name, array in result.outputs.items():
        if array.ndim == 0 or len(array) != count:
            raise AnswerInvalid(f"output '{name}' of {result.model} has shape {list(array.shape)} for {count} rows")
    return [_prediction(result, first_row + index, index, told) for index in range(count)]


def _prediction(result: InferenceResult, row: int, index: int, told: Mapping[str, TensorSpec]) -> Prediction:
    values = {name: array[index] for name, array in result.outputs.items()}
    label = values.pop(LABEL, None)
    probabilities = values.pop(PROBABILITIES, None)
    number = values.pop(PREDICTION) if isinstance(values.get(PREDICTION), np.floating) else None
    flat = None if probabilities is None else np.ravel(probabilities).astype(float)
    return Prediction(
        row=row,
        label=_json_value(label),
        probability=None if flat is None else float(flat[place_of(label, flat, _labels(told, PROBABILITIES))]),
        probabilities=None if flat is None else tuple(flat.tolist()),
        model=result.model,
        version=result.version,
        variant=result.variant or None,
        prediction_id=result.prediction_id,
        cached=result.cached,
        outputs={name: _named(_json_value(value), told.get(name)) for name, value in values.items()},
        prediction=None if number is None else float(number),
    )


def _labels(told: Mapping[str, TensorSpec], name: str) -> tuple[str, ...]:
    return told[name].labels if name in told else ()


def _named(value: Any, told: TensorSpec | None) -> Any:
    """Return the values of an output by what their places stand for, those of several steps by step first."""
    if told is None:
        return value
    if told.steps and isinstance(value, list):
        return _by(told.steps, [_by(told.labels, each) for each in value])
    return _by(told.labels, value)


def _by(names: Sequence[str], value: Any) -> Any:
    fits = isinstance(value, list) and len(value) == len(names)
    return dict(zip(names, value, strict=True)) if fits and names else value


def _json_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist())
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.item() if isinstance(value, np.generic) else value
