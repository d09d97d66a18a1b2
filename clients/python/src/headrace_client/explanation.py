"""Explanations row by row: how much each value of a row adds to the answer of its model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from headrace_data.tasks.multilabel import PLACE_PROBABILITIES
from headrace_data.tasks.quantile import MEDIAN

from headrace_client.errors import AnswerInvalid
from headrace_client.inference import InferenceClient, InferenceResult
from headrace_client.prediction import LABEL, PREDICTION, PROBABILITIES, place_of
from headrace_client.tensors import Array, TensorSpec, arrays_from_rows

_PARTS = ("occlusion", "reference", "remainder")


@dataclass(frozen=True)
class Explanation:
    """What the values of one row add to its answer: the probability of its label, or the number predicted."""

    label: Any
    """The label answered, of several that may be there the likeliest; None where numbers are answered."""
    answer: float
    """The label's probability, or the number predicted; of quantiles the median, of several steps their mean."""
    reference: float
    """The same, answered to the reference."""
    added: Mapping[str, float]
    """How much less the answer is without each value alone, the greatest change first."""
    remainder: float
    """What is left of `answer` less `reference` without those: what values add together only."""
    model: str
    version: str


def explain_rows(
    client: InferenceClient,
    model: str,
    rows: Sequence[Mapping[str, Any]],
    references: Sequence[Mapping[str, Any]] = (),
) -> list[Explanation]:
    """Explain rows of JSON values, one after another.

    The reference is the mean of the numbers and the most frequent of the texts of `references`; without any, numbers
    are taken away as missing, and texts as ones that no row has had. Raises RowsInvalid with every problem of the rows.
    """
    inputs = client.inputs(model)
    arrays = arrays_from_rows(rows, inputs)
    reference = _typical(arrays_from_rows(references, inputs), inputs) if references else {}
    explained = []
    for place in range(len(rows)):
        row = {name: array[place : place + 1] for name, array in arrays.items()}
        both = {name: np.concatenate([value, reference[name]]) for name, value in row.items()} if references else row
        explained.append(_explanation(client.explain(model, both)))
    return explained


def _typical(arrays: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return one row that stands for many."""
    return {tensor.name: _middle(arrays[tensor.name]) for tensor in inputs}


def _middle(array: Array) -> Array:
    if array.dtype.kind == "O":
        columns = array.reshape(len(array), -1).T
        found = [Counter(column.tolist()).most_common(1)[0][0] for column in columns]
        return np.array(found, dtype=object).reshape(1, *array.shape[1:])
    if array.dtype.kind != "f":
        return np.asarray(np.rint(array.mean(axis=0, keepdims=True)), array.dtype)
    known = ~np.isnan(array)
    count = known.sum(axis=0, keepdims=True)
    total = np.where(known, array, 0).sum(axis=0, keepdims=True, dtype=np.float64)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.asarray(mean, array.dtype)


def _middle_place(known: Sequence[str], count: int) -> int:
    """Return the place of the median among quantiles; the middle one where it is not told which is which."""
    median = str(MEDIAN)
    return known.index(median) if median in known[:count] else count // 2


def _explanation(result: InferenceResult) -> Explanation:
    outputs = result.outputs
    explained = [name.removesuffix("/occlusion") for name in outputs if name.endswith("/occlusion")]
    name = PROBABILITIES if PROBABILITIES in explained else next(iter(explained), PREDICTION)
    lacking = [part for part in (name, "explained", *(f"{name}/{part}" for part in _PARTS)) if part not in outputs]
    if lacking:
        raise AnswerInvalid(f"model '{result.model}' does not explain its answers: expected an output '{lacking[0]}'")
    answer, added, reference, remainder = (
        np.asarray(outputs[part], np.float64) for part in (name, *(f"{name}/{part}" for part in _PARTS))
    )
    label = outputs[LABEL][0] if LABEL in outputs else None
    # Of a classification there is one number for each class, of other tasks one, or several in order.
    known = [str(each) for each in outputs.get(f"{name}/labels", ())]
    if name == PLACE_PROBABILITIES:
        label = known[int(answer[0].argmax())] if len(known) == answer[0].size else None
    if answer.ndim == 3 or (name == PREDICTION and answer.ndim == 2):
        # What is added to several steps is, in the mean, what is added to their mean.
        answer, added, reference, remainder = (
            found.mean(axis=found.ndim + 1 - answer.ndim) for found in (answer, added, reference, remainder)
        )
    classes = name in (PROBABILITIES, PLACE_PROBABILITIES)
    chosen = place_of(label, answer[0], known) if classes else _middle_place(known, answer[0].size)
    numbers = [float(np.ravel(found)[chosen]) for found in (answer[0], reference, remainder)]
    each = added.reshape(len(added), -1)[:, chosen]
    values = [str(value) for value in outputs["explained"]]
    if len(values) != len(each):
        raise AnswerInvalid(f"model '{result.model}' explained {len(each)} of {len(values)} values")
    ranked = sorted(zip(values, each.tolist(), strict=True), key=lambda pair: -abs(pair[1]))
    return Explanation(
        label=label.item() if isinstance(label, np.generic) else label,
        answer=numbers[0],
        reference=numbers[1],
        added=dict(ranked),
        remainder=numbers[2],
        model=result.model,
        version=result.version,
    )
