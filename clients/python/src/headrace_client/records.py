"""Records as producers send them, asked of inference: it reads them as ingestion does, and nothing is needed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, SentRecord

from headrace_client.inference import InferenceClient, InferenceResult
from headrace_client.prediction import Prediction, predictions_of
from headrace_client.tensors import Array


@dataclass(frozen=True)
class RecordRejected:
    """Why there is no answer to one record: what a dead letter of it would say."""

    row: int
    """The record, from 1."""
    rule: str
    field: str
    """The field at fault; empty when the whole record is."""
    reason: str


def predict_records(
    client: InferenceClient, model: str, records: Sequence[bytes | SentRecord], *, version: str = "", batch: int = 64
) -> list[Prediction | RecordRejected]:
    """Predict records in the format of the pipeline's stream, `batch` in each call, and return an answer to each.

    A record is the value of a message, or a SentRecord with key, headers or time beside it. Of a stream with many
    records in a message there are as many answers, in order. Raises as InferenceClient does.
    """
    found: list[Prediction | RecordRejected] = []
    for start in range(0, len(records), batch):
        some = [each if isinstance(each, SentRecord) else SentRecord(value=each) for each in records[start:][:batch]]
        answer = client.records(PredictRecordsRequest(model=model, version=version, records=some))
        predicted = iter(_predictions(client, answer))
        for each in answer.answers:
            row, rejection = start + each.record + 1, each.rejection
            found.append(
                RecordRejected(row, rejection.rule, rejection.field, rejection.reason)
                if each.HasField("rejection")
                else replace(next(predicted), row=row)
            )
    return found


def _predictions(client: InferenceClient, answer: Any) -> list[Prediction]:
    rows = [each.prediction for each in answer.answers if each.HasField("prediction")]
    outputs: dict[str, Array] = {}
    for place, output in enumerate(rows[0].outputs if rows else ()):
        values = [_values(row.outputs[place]) for row in rows]
        outputs[output.name] = np.array(values).reshape(len(rows), *output.shape)
    parameters = {"cached": answer.cached, "variant": answer.variant, "version_id": answer.version_id}
    result = InferenceResult(answer.model, answer.version, answer.prediction_id, outputs, parameters)
    return predictions_of(client, result, len(rows))


def _values(output: Any) -> Array:
    if output.texts:
        return np.array(list(output.texts), object)
    return np.array(output.numbers if output.numbers else output.whole_numbers)
