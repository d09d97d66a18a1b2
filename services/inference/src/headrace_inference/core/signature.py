"""What a model takes and gives, and whether a call fits it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from headrace_runtime.errors import InvalidInput, TooLarge
from headrace_runtime.priorities import NORMAL

from headrace_inference.core.tensors import (
    BOOL,
    BYTES,
    Array,
    Datatype,
    InputTensor,
    Shape,
    decode_raw,
    decode_typed,
    with_known_gaps,
)

MOST_VALUE_BYTES = 10
"""What one number takes at most in typed contents: a negative whole number takes ten bytes, whatever its type."""
MOST_OTHER_BYTES = 1024 * 1024
"""Bytes of a call beyond its numbers: names, shapes, parameters."""
MOST_STRANGERS = 64
"""Tensors of a call beyond those of its model that are still named in the error."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    A dimension is a size, or the name of one that the caller chooses; equal names mean equal sizes. What is `optional`
    may be missing: as NaN or an empty text in any row, or left out for all rows of a call. `labels` say what the places
    of an output's last dimension stand for, where the model knows, and `steps` those of the one behind the rows.
    """

    name: str
    datatype: Datatype
    shape: tuple[int | str, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    depends: bool = False
    """Of an output: whether a row's values depend on the other rows of its call."""

    @property
    def sizes(self) -> Shape:
        """The shape as the protocol writes it: -1 for a dimension that the caller chooses."""
        return tuple(size if isinstance(size, int) else -1 for size in self.shape)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model, as it was sent.

    `raws` holds the raw contents in the order of `inputs`; empty when the contents are typed. `outputs` names those
    asked for; empty for all. `classes` says of which of them only the highest scores are wanted, and how many.
    """

    model: str
    version: str
    id: str
    inputs: Sequence[InputTensor]
    raws: Sequence[bytes]
    outputs: Sequence[str]
    classes: Mapping[str, int] = field(default_factory=dict)
    timeout_s: float | None = None
    """Seconds after its arrival that the caller gives the call, beside the deadline of its transport."""
    explain: bool = False
    """Whether the answer comes with what each value of the row adds to it."""
    chat: bool = False
    """Whether the prompt of a model of language is a conversation, as JSON."""
    priority: int = NORMAL
    """Whose turn it is among calls that wait, from `FIRST` to `LAST`."""


class Signature:
    """Inputs and outputs of a model; a call has `max_rows` rows (first dimension) at most where callers choose it."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], max_rows: int) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.max_rows = max_rows
        self.output_names = tuple(spec.name for spec in outputs)
        self.batched = all(spec.shape and isinstance(spec.shape[0], str) for spec in (*inputs, *outputs))
        """Whether the first dimension of every tensor is the rows, of which callers choose how many."""
        self.depends = any(spec.depends for spec in outputs)
        """Whether the answer to a row depends on the other rows of its call."""
        self._specs = {spec.name: spec for spec in inputs}
        self._required = [spec.name for spec in inputs if not spec.optional]
        self._outputs = {spec.name: spec for spec in outputs}
        self.largest_bytes = _largest_bytes(self.inputs, max_rows)
        """What a call can take at most, serialised; None for texts, or where callers choose a size beside the rows."""

    def check_size(self, size_bytes: int) -> None:
        """Raise TooLarge for a serialised call of more bytes than any that fits, before it is read."""
        if self.largest_bytes is not None and size_bytes > self.largest_bytes:
            raise TooLarge(
                f"expected at most {self.largest_bytes} bytes, which is beyond {self.max_rows} rows, got {size_bytes}"
            )

    def check_counts(self, inputs: int, outputs: int) -> None:
        """Raise InvalidInput for so many tensors that they cannot be meant."""
        for kind, count, known in (("inputs", inputs, self.inputs), ("outputs", outputs, self.outputs)):
            if count > len(known) + MOST_STRANGERS:
                raise InvalidInput(f"expected {len(known)} {kind}, got {count}")

    def arrays(self, call: Call) -> dict[str, Array]:
        """Return a call's inputs as arrays by name. Raises InvalidInput that names the tensor and what it should be."""
        self._check_names(call)
        self._check_contents(call)
        chosen: dict[str, int] = {}
        arrays: dict[str, Array] = {}
        for position, tensor in enumerate(call.inputs):
            spec = self._specs[tensor.name]
            self._check_type_and_shape(spec, tensor, chosen)
            if call.raws:
                array = decode_raw(spec.name, spec.datatype, tensor.shape, call.raws[position])
            else:
                array = decode_typed(spec.name, spec.datatype, tensor.shape, tensor.typed)
            arrays[spec.name] = with_known_gaps(spec.name, array, optional=spec.optional)
        if len(arrays) < len(self.inputs):
            arrays |= {spec.name: _left_out(spec, chosen) for spec in self.inputs if spec.name not in arrays}
        return arrays

    def rows(self, arrays: Mapping[str, Array]) -> int:
        """Return how many rows a call has; 1 for a model without such a dimension."""
        for spec in self.inputs:
            if spec.shape and isinstance(spec.shape[0], str):
                return int(arrays[spec.name].shape[0])
        return 1

    def output(self, name: str) -> TensorSpec:
        """Return the output of that name."""
        return self._outputs[name]

    def requested(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Return the outputs to compute: those named, or all. Raises InvalidInput for an unknown or repeated name."""
        if not outputs:
            return self.output_names
        for name in outputs:
            if name not in self.output_names:
                raise InvalidInput(f"output {name!r}: expected one of {list(self.output_names)}")
        if len(set(outputs)) != len(outputs):
            raise InvalidInput(f"outputs: expected each name once, got {list(outputs)}")
        return tuple(outputs)

    def _check_names(self, call: Call) -> None:
        names = [tensor.name for tensor in call.inputs]
        missing = [name for name in self._required if name not in names]
        extra = [name for name in names if name not in self._specs]
        if missing or extra:
            known = ", ".join(f"{spec.name!r} {spec.datatype.name} {list(spec.sizes)}" for spec in self.inputs)
            found = [f"missing {missing}"] * bool(missing) + [f"unknown {extra}"] * bool(extra)
            raise InvalidInput(f"inputs: expected {known}, got {names}: {' and '.join(found)}")
        if len(set(names)) != len(names):
            raise InvalidInput(f"inputs: expected each name once, got {names}")

    def _check_contents(self, call: Call) -> None:
        if not call.raws:
            return
        for tensor in call.inputs:
            if tensor.typed:
                raise InvalidInput(f"input {tensor.name!r}: expected raw or typed contents, got both")
        if len(call.raws) != len(call.inputs):
            raise InvalidInput(
                f"raw_input_contents: expected {len(call.inputs)} entries, one for each input, got {len(call.raws)}"
            )

    def _check_type_and_shape(self, spec: TensorSpec, tensor: InputTensor, chosen: dict[str, int]) -> None:
        name, shape = spec.name, tensor.shape
        if tensor.datatype != spec.datatype.name:
            raise InvalidInput(f"input {name!r}: expected datatype {spec.datatype.name}, got {tensor.datatype!r}")
        if len(shape) != len(spec.shape):
            raise InvalidInput(
                f"input {name!r}: expected {len(spec.shape)} dimensions {list(spec.sizes)}, "
                f"got {len(shape)}: {list(shape)}"
            )
        for position, (expected, got) in enumerate(zip(spec.shape, shape, strict=True)):
            if isinstance(expected, int):
                fits, wanted = got == expected, str(expected)
            elif position == 0:
                fits, wanted = 1 <= got <= self.max_rows, f"1 to {self.max_rows} rows"
            else:
                fits, wanted = got >= 0, "no negative size"
            if not fits:
                raise InvalidInput(
                    f"input {name!r}: expected shape {list(spec.sizes)}, got {list(shape)}: "
                    f"dimension {position} should be {wanted}"
                )
            if isinstance(expected, str) and chosen.setdefault(expected, got) != got:
                raise InvalidInput(
                    f"input {name!r}: expected {chosen[expected]} in dimension {position} as in the inputs before, "
                    f"got {got}"
                )


def _left_out(spec: TensorSpec, chosen: Mapping[str, int]) -> Array:
    """Return an optional input that a call leaves out: missing in as many rows as the other inputs have."""
    if any(isinstance(size, str) and size not in chosen for size in spec.shape):
        raise InvalidInput(f"inputs: expected at least one beside {spec.name!r}, to tell the number of rows, got none")
    shape = [chosen[size] if isinstance(size, str) else size for size in spec.shape]
    missing = "" if spec.datatype is BYTES else False if spec.datatype is BOOL else np.nan
    return np.full(shape, missing, spec.datatype.dtype)


def _largest_bytes(inputs: Sequence[TensorSpec], max_rows: int) -> int | None:
    values = 0
    for spec in inputs:
        sizes = [max_rows if place == 0 and isinstance(size, str) else size for place, size in enumerate(spec.shape)]
        if spec.datatype is BYTES or any(isinstance(size, str) for size in sizes):
            return None
        values += math.prod(int(size) for size in sizes)
    return values * MOST_VALUE_BYTES + MOST_OTHER_BYTES
