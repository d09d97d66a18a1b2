"""What becomes of records, and the plane's answer to those that are rows, as one answer to each; and that as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message
from headrace import open_inference as oip
from headrace.inference.v1.record_service_pb2 import OutputValue, PredictRecordsResponse, RecordAnswer
from headrace_runtime.errors import InvalidInput

from headrace_inference.core.tensors import BYTES, DATATYPES, OutputTensor, decode_output
from headrace_inference.transport.other_process import Told
from headrace_inference.transport.records.asked import Lying


def write_answer(told: Told, sent: bytes) -> bytes:
    """Return the answer to records: a PredictRecordsResponse, or JSON where that is told.

    `told` says what became of them (`rows`, `rejected`), by which spec they were read, and which version was asked;
    `sent` is the ModelInferResponse to those that are rows, empty where none is one. Where it tells the `places` of
    records on a topic, each has an answer of its own, on a line. Raises InvalidInput for outputs that are bytes and no
    texts.
    """
    answer = PredictRecordsResponse(**told["asked"])
    found = [RecordAnswer(record=record, line=line) for record, line in told["rows"]]
    if sent:
        message = oip.ModelInferResponse.FromString(sent)
        _name(answer, message)
        _add_outputs(found, message)
    for record, line, rule, field, reason in told["rejected"]:
        rejected = RecordAnswer(record=record, line=line)
        rejected.rejection.rule, rejected.rejection.field, rejected.rejection.reason = rule, field, reason
        found.append(rejected)
    answer.answers.extend(sorted(found, key=lambda each: (each.record, each.line)))
    if told["places"]:
        return b"\n".join(_as_json(each) for each in _one_by_one(answer, told["places"]))
    return _as_json(to_plain(answer)) if told["json"] else answer.SerializeToString()


def rejected_alone(place: Lying, model: str, rule: str, reason: str) -> bytes:
    """Return the answer, on a line, to a record on a topic that could not even be asked about."""
    rejection = {"rule": rule, "field": "", "reason": reason}
    return _as_json({"record": place._asdict(), "model": model, "rejection": rejection})


def _as_json(told: dict[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode()


def _one_by_one(answer: PredictRecordsResponse, places: Sequence[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield each answer of a call with where its record lies and who answers; they are in order, and none lacks."""
    names = ("model", "version", "version_id", "variant", "spec_digest")
    of = {name: getattr(answer, name) for name in names}
    for place, each in zip(places, answer.answers, strict=True):
        told = {"record": Lying(*place)._asdict(), **of}
        plain = _plain(each)
        del plain["record"], plain["line"]
        yield told | ({"prediction_id": answer.prediction_id} if "outputs" in plain else {}) | plain


def _name(answer: PredictRecordsResponse, message: Any) -> None:
    """Say which version answered, which may be another than was asked."""
    told = message.parameters
    answer.version, answer.cached = message.model_version, told["cached"].bool_param
    for name in ("prediction_id", "version_id", "variant"):
        setattr(answer, name, told[name].string_param)


def _add_outputs(found: list[RecordAnswer], message: Any) -> None:
    for row, each in enumerate(found):
        each.prediction.row = row
    for output, raw in zip(message.outputs, list(message.raw_output_contents), strict=True):
        values = _values(OutputTensor(output.name, output.datatype, tuple(output.shape), raw))
        # A model that has no rows answers the one record with all that it has.
        shape = list(output.shape[1:]) if len(output.shape) and output.shape[0] == len(found) else list(output.shape)
        size = math.prod(shape)
        for row, each in enumerate(found):
            value = each.prediction.outputs.add(name=output.name, shape=shape)
            _list_of(value, output.datatype).extend(values[row * size : (row + 1) * size])


def _values(tensor: OutputTensor) -> list[Any]:
    values = decode_output(tensor)
    if tensor.datatype != BYTES.name:
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"output {tensor.name!r}: expected texts, got bytes: ask ModelInfer for them") from error


def _list_of(value: OutputValue, datatype: str) -> Any:
    if datatype == BYTES.name:
        return value.texts
    return value.numbers if DATATYPES[datatype].dtype.kind == "f" else value.whole_numbers


def to_plain(answer: PredictRecordsResponse) -> dict[str, Any]:
    """Return an answer as JSON says it: outputs by their names, nested in their shape, null for no finite number."""
    return {
        "model_name": answer.model,
        "model_version": answer.version,
        "parameters": {
            "prediction_id": answer.prediction_id,
            "version_id": answer.version_id,
            "variant": answer.variant,
            "cached": answer.cached,
            "spec_digest": answer.spec_digest,
        },
        "answers": [_plain(each) for each in answer.answers],
    }


def _plain(answer: RecordAnswer) -> dict[str, Any]:
    told: dict[str, Any] = {"record": answer.record, "line": answer.line}
    if answer.HasField("rejection"):
        return told | {"rejection": _fields(answer.rejection)}
    outputs = {each.name: _nested(list(_flat(each)), list(each.shape)) for each in answer.prediction.outputs}
    return told | {"row": answer.prediction.row, "outputs": outputs}


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def _flat(value: OutputValue) -> Iterator[Any]:
    yield from (number if math.isfinite(number) else None for number in value.numbers)
    yield from value.whole_numbers
    yield from value.texts


def _nested(values: list[Any], shape: list[int]) -> Any:
    if not shape:
        return values[0]
    for size in reversed(shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)] if size else []
    return values
