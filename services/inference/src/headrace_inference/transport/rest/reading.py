"""A REST call as a ModelInferRequest: JSON, or JSON and raw contents behind it (the binary tensor data extension).

Both become raw contents, so that equal calls are equal bytes, whichever way they come. In JSON a missing number is
null, as JSON has no NaN.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Never

import numpy as np
import orjson
from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput

from headrace_inference.core.tensors import BYTES, DATATYPES, Datatype, encode_raw

BINARY_SIZE = "binary_data_size"
BINARY = "binary_data"
BINARY_OUTPUT = "binary_data_output"
MOST_DIMENSIONS = 64
"""As many as arrays may have. The product of more sizes is a number that takes minutes to make."""
_KEYS = {
    "request": {"id", "model_name", "model_version", "parameters", "inputs", "outputs"},
    "input": {"name", "shape", "datatype", "parameters", "data"},
    "output": {"name", "parameters"},
}
_KINDS: dict[str, set[Any]] = {"O": {str, type(None)}, "b": {bool}, "f": {int, float, type(None)}}
"""What JSON may have for the values of a kind of numpy's types; whole numbers for others."""
_PLAIN = {int, float, bool, type(None)}
_PARAMETERS = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was read."""

    request: bytes
    """A serialised ModelInferRequest."""
    binary: Mapping[str, bool]
    """Which outputs are wanted as raw contents, of those that say so."""
    all_binary: bool
    """Whether the others are."""


def read_call(model: str, version: str, body: bytes, json_bytes: int | None) -> Asked:
    """Return what a body asks of a model. `json_bytes` is the length of its JSON; None when it is all JSON.

    Raises InvalidInput that names what was expected, and what came.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise InvalidInput(f"Inference-Header-Content-Length: expected at most {len(body)}, got {json_bytes}")
    asked = _object(read_json(body if json_bytes is None else body[:json_bytes]), "request")
    contents = None if json_bytes is None else memoryview(body)[json_bytes:]
    try:
        return _read(model, version, asked, contents)
    except ValueError as error:  # of protobuf, whose texts are Unicode
        raise InvalidInput(f"expected texts that are Unicode: {error}") from error


def _read(model: str, version: str, asked: dict[str, Any], contents: memoryview | None) -> Asked:
    for name, named in (("model_name", model), ("model_version", version)):
        # KServe's client repeats the path here.
        if asked.get(name, named) != named:
            raise InvalidInput(f"{name}: expected {named!r} as in the path, got {shown(asked[name])}")
    message = oip.ModelInferRequest(model_name=model, model_version=version, id=_text(asked.get("id", ""), "id"))
    parameters = _section(asked, "parameters", "request")
    all_binary = _flag(parameters.pop(BINARY_OUTPUT, False), BINARY_OUTPUT)
    _add_parameters(message.parameters, parameters, "request")
    _add_inputs(message, _objects(asked, "inputs", "input"), contents)
    binary: dict[str, bool] = {}
    for output in _objects(asked, "outputs", "output"):
        name = _text(output.get("name"), "name of an output")
        parameters = _section(output, "parameters", f"output {name!r}")
        if BINARY in parameters:
            binary[name] = _flag(parameters.pop(BINARY), BINARY)
        _add_parameters(message.outputs.add(name=name).parameters, parameters, f"output {name!r}")
    return Asked(bytes(message.SerializeToString()), binary, all_binary)


def read_json(text: bytes) -> Any:
    """Return what JSON says. Raises InvalidInput for anything else, NaN and repeated names with it.

    orjson reads several times as fast as the standard library and drops names that come again: then, and where it finds
    anything wrong, the standard library has the last word.
    """
    with _uncollected(), suppress(ValueError, RecursionError):
        found = orjson.loads(text)
        # A colon that an escape stands for would be one more in the texts than in the JSON.
        if b"\\u003" not in text and text.count(b":") == _colons(found):
            return found
    return _read_strictly(text)


def _colons(value: Any) -> int:
    """Return the colons that JSON of a value has: one for each name, and those in texts.

    A list that begins with a number is taken for one of numbers: where it is none, fewer are counted than there are.
    """
    count, left = 0, [value]
    while left:
        each = left.pop()
        if type(each) is str:
            count += each.count(":")
        elif type(each) is dict:
            count += len(each) + sum(name.count(":") for name in each)
            left += each.values()
        elif type(each) is list and each and type(each[0]) not in _PLAIN:
            left += each
    return count


def _read_strictly(text: bytes) -> Any:
    try:
        with _uncollected():
            return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, of a number with thousands of digits
        raise InvalidInput(f"expected JSON: {error}") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold garbage collection back: JSON has no cycles, and going through its many lists takes longer than reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidInput(f"expected each name once, got {name!r} again")
    return found


def _refuse_constant(name: str) -> Never:
    raise InvalidInput(f"expected JSON, which has no {name}: null stands for a missing number")


def _add_inputs(message: Any, inputs: Sequence[dict[str, Any]], contents: memoryview | None) -> None:
    used = 0
    for given in inputs:
        name = _text(given.get("name"), "name of an input")
        where = f"input {name!r}"
        datatype = DATATYPES.get(_text(given.get("datatype"), f"datatype of {where}"))
        if datatype is None:
            raise InvalidInput(f"{where}: expected a datatype of {list(DATATYPES)}, got {given['datatype']!r}")
        shape = _shape(given.get("shape"), where)
        parameters = _section(given, "parameters", where)
        size = parameters.pop(BINARY_SIZE, None)
        tensor = message.inputs.add(name=name, datatype=datatype.name, shape=shape)
        _add_parameters(tensor.parameters, parameters, where)
        if size is None:
            message.raw_input_contents.append(_raw_of(given.get("data"), datatype, shape, where))
            continue
        if contents is None or "data" in given:
            wanted = "the header Inference-Header-Content-Length" if contents is None else "no data"
            raise InvalidInput(f"{where}: expected {wanted} beside {BINARY_SIZE}")
        if type(size) is not int or not 0 <= size <= len(contents) - used:
            left = len(contents) - used
            raise InvalidInput(f"{where}: expected a {BINARY_SIZE} of at most the {left} bytes left, got {size!r}")
        message.raw_input_contents.append(bytes(contents[used : used + size]))
        used += size
    if contents is not None and used != len(contents):
        raise InvalidInput(f"inputs: expected {used} bytes behind the JSON, as they say, got {len(contents)}")


def _raw_of(data: Any, datatype: Datatype, shape: Sequence[int], where: str) -> bytes:
    """Return JSON values, nested or flat, as raw contents."""
    values = _flat(data, len(shape), where)
    if len(values) != prod(shape):
        raise InvalidInput(f"{where}: expected {prod(shape)} values for shape {list(shape)}, got {len(values)}")
    types = set(map(type, values))
    dtype = datatype.dtype
    allowed = _KINDS.get(dtype.kind, {int})
    if not types <= allowed:
        stranger = next(value for value in values if type(value) not in allowed)
        raise InvalidInput(f"{where}: expected values of {datatype.name}, got {shown(stranger)}")
    try:
        if datatype is BYTES:
            return encode_raw(np.array([value or "" for value in values], object), BYTES)
        if type(None) in types:
            values = [np.nan if value is None else value for value in values]
        with np.errstate(over="ignore"):
            array = np.array(values, dtype)
    except OverflowError as error:
        raise InvalidInput(f"{where}: expected values within {datatype.name}: {error}") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{where}: expected text that is Unicode: {error.reason}") from error
    if dtype.kind == "f" and np.isinf(array).any():
        raise InvalidInput(f"{where}: expected values within {datatype.name}, got one beyond them")
    return array.tobytes()


def _flat(data: Any, rank: int, where: str) -> list[Any]:
    """Return nested lists as one, in row-major order."""
    if type(data) is not list:
        raise InvalidInput(f"{where}: expected data, a list of values, or {BINARY_SIZE}")
    values: list[Any] = data
    for _ in range(rank):
        if not values or type(values[0]) is not list:
            break
        if set(map(type, values)) != {list} or len(set(map(len, values))) != 1:
            raise InvalidInput(f"{where}: expected lists of the same length within lists")
        values = list(chain.from_iterable(values))
    return values


def _shape(given: Any, where: str) -> list[int]:
    if type(given) is not list or not all(type(size) is int and 0 <= size < 2**63 for size in given):
        raise InvalidInput(f"{where}: expected a shape, a list of whole numbers from 0, got {shown(given)}")
    if len(given) > MOST_DIMENSIONS:
        raise InvalidInput(f"{where}: expected a shape of at most {MOST_DIMENSIONS} dimensions, got {len(given)}")
    return given


def _add_parameters(field: Any, given: Mapping[str, Any], where: str) -> None:
    for name, value in given.items():
        choice = _PARAMETERS.get(type(value))
        if choice is None or (type(value) is int and not -(2**63) <= value < 2**63):
            raise InvalidInput(f"parameter {name!r} of {where}: expected a text, a number, true or false")
        setattr(field[name], choice, value)


def _object(value: Any, kind: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise InvalidInput(f"{kind}: expected an object, got {shown(value)}")
    if unknown := value.keys() - _KEYS[kind]:
        raise InvalidInput(f"{kind}: expected {sorted(_KEYS[kind])}, got {sorted(unknown)[0]!r}")
    return {name: each for name, each in value.items() if each is not None}


def _objects(asked: Mapping[str, Any], name: str, kind: str) -> list[dict[str, Any]]:
    found = asked.get(name, [])
    if type(found) is not list:
        raise InvalidInput(f"{name}: expected a list")
    return [_object(each, kind) for each in found]


def _section(given: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    found = given.get(name, {})
    if type(found) is not dict:
        raise InvalidInput(f"{name} of {where}: expected an object")
    return dict(found)


def _text(value: Any, what: str) -> str:
    if type(value) is not str:
        raise InvalidInput(f"{what}: expected a text, got {shown(value)}")
    return value


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise InvalidInput(f"parameter {name!r}: expected true or false, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Return what came, short enough for an error."""
    return "a list" if type(value) is list else "an object" if type(value) is dict else json.dumps(value)[:64]
