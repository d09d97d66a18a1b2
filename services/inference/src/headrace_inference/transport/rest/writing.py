"""Answers of the plane as REST has them: JSON, and raw contents behind it where they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput

from headrace_inference.core.tensors import BYTES, OutputTensor, decode_output
from headrace_inference.transport.rest.reading import BINARY_SIZE

Plain = dict[str, Any]


class Written(NamedTuple):
    """The body of an answer."""

    body: bytes
    json_bytes: int | None
    """Length of the JSON that it begins with; None when it is all JSON."""


def write_answer(answer: bytes, binary: Mapping[str, bool], *, all_binary: bool) -> Written:
    """Return a serialised ModelInferResponse with raw contents as REST has it.

    `binary` names outputs that are wanted as raw contents or not, `all_binary` tells of the others. In JSON, what is no
    finite number is null.
    """
    message = oip.ModelInferResponse.FromString(answer)
    outputs, behind = [], []
    for output, raw in zip(message.outputs, list(message.raw_output_contents), strict=True):
        told: Plain = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if binary.get(output.name, all_binary):
            told["parameters"] = {BINARY_SIZE: len(raw)}
            behind.append(raw)
        else:
            told["data"] = _values(OutputTensor(output.name, output.datatype, tuple(output.shape), raw))
        outputs.append(told)
    whole: Plain = {"model_name": message.model_name, "model_version": message.model_version}
    if message.id:
        whole["id"] = message.id
    whole["parameters"] = {name: plain(value) for name, value in message.parameters.items()}
    text = write_json(whole | {"outputs": outputs})
    return Written(b"".join((text, *behind)), len(text)) if behind else Written(text, None)


def write_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8."""
    return orjson.dumps(value)


def plain(message: Any) -> Any:
    """Return a message as what JSON can say, with every field that has no presence: numbers as numbers."""
    descriptor = message.DESCRIPTOR
    if descriptor.name == "InferParameter":
        choice = message.WhichOneof("parameter_choice")
        return None if choice is None else getattr(message, choice)
    found: Plain = {}
    for field in descriptor.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = {key: _plain_value(each) for key, each in sorted(value.items())}
        elif field.is_repeated:
            found[field.name] = [_enum_name(field, each) for each in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _enum_name(field, value)
    return found


def _enum_name(field: Any, value: Any) -> Any:
    return field.enum_type.values_by_number[value].name if field.enum_type is not None else _plain_value(value)


def _plain_value(value: Any) -> Any:
    return plain(value) if hasattr(value, "DESCRIPTOR") else value


def _values(tensor: OutputTensor) -> list[Any]:
    values = decode_output(tensor)
    if tensor.datatype == BYTES.name:
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise InvalidInput(f"output {tensor.name!r}: expected binary_data for bytes that are no text") from error
    if tensor.datatype.startswith("FP") and not all(map(math.isfinite, values)):
        return [value if math.isfinite(value) else None for value in values]
    return values
