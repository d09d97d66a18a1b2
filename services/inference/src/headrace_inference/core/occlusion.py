"""Explanations by occlusion: how much of an answer is lost when one value of the row is taken away.

After Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014); of a table's features it is also
called feature ablation. Each value of the row is replaced by that of a reference, one at a time, and the difference
of the answers is what the value adds. Values that only work together are told of by the remainder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from headrace_runtime.errors import InvalidInput

from headrace_inference.core.signature import Signature, TensorSpec
from headrace_inference.core.tensors import BYTES, DATATYPES, Array, OutputTensor, encode_raw

NAME = "occlusion"
MOST_VALUES = 1_024
"""Values of a row, at most: a small call must not make a large one. Arrays then hold their square."""
MOST_BYTES = 64 * 1024 * 1024
"""Bytes of all rows together, at most: each holds the row's texts."""
VALUES = "explained"
"""Name of the output that names the values of the row."""


@dataclass(frozen=True)
class Occlusion:
    """The rows that a graph computes to explain one of them: the row, the reference, and a row for each value."""

    values: tuple[str, ...]
    """Names of the values: of an input with one value its name, else `name[position]`, row-major."""
    arrays: dict[str, Array]
    size_bytes: int
    """Bytes of the arrays and of the texts in them."""

    @property
    def rows(self) -> int:
        """How many rows are computed."""
        return len(self.values) + 2

    @classmethod
    def of(cls, signature: Signature, arrays: Mapping[str, Array], rows: int) -> Occlusion:
        """Return the rows for a call of the row to explain, and of a second row that is the reference.

        Without a second row numbers are missing in the reference and texts are empty: one that no row has had where it
        may not be missing. Raises InvalidInput for numbers that may not be missing, and for too many values.
        """
        if not signature.batched:
            raise InvalidInput("parameter 'explain': expected a model whose calls have rows, got one without")
        if rows > 2:
            raise InvalidInput(f"parameter 'explain': expected a row, or a row and its reference, got {rows} rows")
        reference = {spec.name: _reference(spec, arrays[spec.name]) for spec in signature.inputs}
        count = sum(value.size for value in reference.values())
        most = max(0, min(MOST_VALUES, signature.max_rows - 2))
        if count > most:
            raise InvalidInput(f"parameter 'explain': expected a model of at most {most} values a row, got {count}")
        size_bytes = (count + 2) * max(_bytes(arrays, place) for place in range(rows))
        if size_bytes > MOST_BYTES:
            raise InvalidInput(f"parameter 'explain': expected at most {MOST_BYTES} bytes in all, got {size_bytes}")
        built: dict[str, Array] = {}
        names: list[str] = []
        for spec in signature.inputs:
            other = reference[spec.name]
            built[spec.name] = _occluded(arrays[spec.name], other, first=len(names) + 2, rows=count + 2)
            names += _names(spec.name, other.shape)
        return cls(tuple(names), built, size_bytes)

    def tensors(self, signature: Signature, outputs: Mapping[str, Array]) -> list[OutputTensor]:
        """Return the outputs of the row, then what explains those that are numbers with a fraction.

        `explained` names the values. `NAME/occlusion`, shape [values, *shape of the output], is what each value adds to
        the row's answer, `NAME/reference` the answer to the reference. The differences need not add up to that of these
        two: `NAME/remainder` is what values add only together. `NAME/labels` says what the places of an answer stand
        for, where the model knows.
        """
        answers, explained = [], []
        for name, array in outputs.items():
            datatype = signature.output(name).datatype
            answers.append(_tensor(name, datatype.name, array[:1]))
            if array.dtype.kind != "f":
                continue
            wide = array.astype(np.float64)
            added = wide[0] - wide[2:]
            remainder = wide[0] - wide[1] - added.sum(axis=0)
            for what, found in (("occlusion", added), ("reference", wide[1]), ("remainder", remainder)):
                explained.append(_tensor(f"{name}/{what}", datatype.name, found.astype(array.dtype)))
            if labels := signature.output(name).labels:
                explained.append(_tensor(f"{name}/labels", BYTES.name, np.array(labels, object)))
        names = np.array(self.values, object)
        return [*answers, _tensor(VALUES, BYTES.name, names), *explained]


def _bytes(arrays: Mapping[str, Array], place: int) -> int:
    """Return the bytes of a row, those of its texts included."""
    rows = [array[place : place + 1] for array in arrays.values()]
    texts = sum(len(str(text).encode()) for row in rows if row.dtype == object for text in row.ravel())
    return texts + sum(row.nbytes for row in rows)


def _reference(spec: TensorSpec, array: Array) -> Array:
    """Return the reference of an input, in the shape of one row."""
    shape = array.shape[1:]
    if len(array) > 1:
        return array[1:2].reshape(shape)
    if spec.datatype is BYTES:
        return np.full(shape, "", array.dtype)
    if not spec.optional:
        raise InvalidInput(
            f"parameter 'explain': input {spec.name!r} may not be missing: expected a second row as the reference"
        )
    return np.full(shape, np.nan, array.dtype)


def _occluded(array: Array, reference: Array, *, first: int, rows: int) -> Array:
    """Return the first row in each place but the second, with one value of the reference in each from `first` on."""
    built = np.repeat(array[:1], rows, axis=0)
    built[1:2] = reference
    flat = built.reshape(rows, -1)
    places = np.arange(reference.size)
    flat[first + places, places] = reference.reshape(-1)
    return built


def _names(name: str, shape: tuple[int, ...]) -> Iterator[str]:
    if np.prod(shape, dtype=int) == 1:
        yield name
        return
    for place in np.ndindex(shape):
        yield f"{name}[{','.join(str(number) for number in place)}]"


def _tensor(name: str, datatype: str, array: Array) -> OutputTensor:
    return OutputTensor(name, datatype, array.shape, encode_raw(array, DATATYPES[datatype]))
