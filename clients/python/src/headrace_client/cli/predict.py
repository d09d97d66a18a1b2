"""`predict`: JSON rows in, predictions out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final

import numpy as np
import typer
from headrace_data.tasks.multilabel import LABELS, PLACE_PROBABILITIES

from headrace_client.addresses import find_addresses
from headrace_client.cli.files import STANDARD_INPUT, EncodingOption
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, table
from headrace_client.cli.rows import InputsOption, RowsFile, read_inputs, read_records, shortened, tell_unknown
from headrace_client.errors import RowProblem, RowsInvalid
from headrace_client.inference import InferenceClient
from headrace_client.prediction import Prediction, predict_rows, unknown_fields
from headrace_client.records import RecordRejected, predict_records

_WHOLE: Final = range(10**6, 10**15)
"""Numbers of this size are shown whole: as powers of ten nobody reads prices."""


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    file: RowsFile = STANDARD_INPUT,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows in one call; a call is cached as a whole.")] = 1,
    inputs: InputsOption = False,
    encoding: EncodingOption = "",
    on_server: Annotated[
        bool,
        typer.Option(
            "--on-server",
            help="Send records as they are, and have the server read them as ingestion does: what nothing is wrong "
            "with is answered, and the command ends with 1 when something else was there.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict rows. Each row names the model's inputs; what may be missing is null or not there.

    Where the model's pipeline has a SELECT, rows are records as producers send them, and it makes the inputs of them.
    Other fields are left out, and named on standard error.
    """
    if on_server:
        _predict_there(model, file, batch, as_json=as_json)
        return
    with InferenceClient(find_addresses().inference) as client:
        rows = read_inputs(client, model, file, are_inputs=inputs, encoding=encoding)
        started = time.perf_counter()
        tensors = client.inputs(model)
        tell_unknown(model, unknown_fields(rows, tensors))
        try:
            predictions = predict_rows(client, model, rows, batch=batch, inputs=tensors)
        except RowsInvalid as error:
            raise shortened(error) from error
        elapsed_s = time.perf_counter() - started
    _show(predictions, elapsed_s, as_json=as_json)


def _predict_there(model: str, file: str, batch: int, *, as_json: bool) -> None:
    """Predict records that the server reads."""
    records = read_records(file)
    with InferenceClient(find_addresses().inference) as client:
        started = time.perf_counter()
        answers = predict_records(client, model, records, batch=batch)
        elapsed_s = time.perf_counter() - started
    rejected = [each for each in answers if isinstance(each, RecordRejected)]
    _show([each for each in answers if isinstance(each, Prediction)], elapsed_s, as_json=as_json)
    if rejected:
        told = [RowProblem(each.row, each.field, each.reason.removeprefix(f"{each.field}: ")) for each in rejected]
        raise shortened(RowsInvalid(told))


def _show(predictions: list[Prediction], elapsed_s: float, *, as_json: bool) -> None:
    if as_json:
        print_json([_view(prediction) for prediction in predictions])
        return
    if predictions:
        _print(predictions)
    cached = sum(prediction.cached for prediction in predictions)
    plural = "" if len(predictions) == 1 else "s"
    note(f"{len(predictions)} row{plural} in {elapsed_s * 1000:.0f} ms, {cached} from the cache")


def _view(prediction: Prediction) -> dict[str, Any]:
    return {
        "row": prediction.row,
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": None if prediction.probabilities is None else list(prediction.probabilities),
        "prediction": prediction.prediction,
        "model": prediction.model,
        "version": prediction.version,
        "variant": prediction.variant,
        "prediction_id": prediction.prediction_id,
        "cached": prediction.cached,
        "outputs": prediction.outputs,
    }


def _print(predictions: list[Prediction]) -> None:
    answers, cells = _answers(predictions)
    rows = [
        [
            str(prediction.row),
            *cells(prediction),
            plain(prediction.version),
            plain(prediction.variant or ""),
            "yes" if prediction.cached else "no",
        ]
        for prediction in predictions
    ]
    print_parts([table([">row", *answers, "version", "variant", "=cached"], rows)])


def _answers(predictions: list[Prediction]) -> tuple[list[str], Callable[[Prediction], list[str]]]:
    """Return the columns of the answers, and what stands there in a row."""
    if any(prediction.prediction is not None for prediction in predictions):
        return [">prediction"], lambda prediction: [_number(prediction.prediction)]
    if all(LABELS in prediction.outputs for prediction in predictions):
        return ["labels"], lambda prediction: [_present(prediction)]
    if all(prediction.label is None for prediction in predictions) and (names := _named(predictions)):
        return [f">{plain(' '.join(path) or name)}" for name, *path in names], lambda prediction: [
            _number(_of_place(prediction.outputs.get(name), path)) for name, *path in names
        ]
    return ["label", ">probability"], _class


def _present(prediction: Prediction) -> str:
    """Return the labels that are there, each with its probability."""
    labels, shares = (prediction.outputs.get(name) for name in (LABELS, PLACE_PROBABILITIES))
    if not isinstance(labels, dict) or not isinstance(shares, dict):
        return plain(str(labels))
    there = [f"{name} {shares[name]:.4f}" for name, value in labels.items() if value and name in shares]
    return plain(", ".join(there) or "none")


def _named(predictions: list[Prediction]) -> list[tuple[str, ...]]:
    """Return each output that is one number, or has places with names in any version that answered, with each of these.

    Of an output of several steps with several numbers each it is the step and then the number.
    """
    answers = [pair for prediction in predictions for pair in prediction.outputs.items()]
    return list(dict.fromkeys((name, *path) for name, value in answers for path in _paths(value)))


def _paths(value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        yield from ((name, *path) for name, held in value.items() for path in _paths(held))
    elif isinstance(value, int | float):
        yield ()


def _of_place(value: Any, path: Sequence[str]) -> float | None:
    """Return the number of a place; none of a version that has no such place, or is served no more and told of none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def _class(prediction: Prediction) -> list[str]:
    probability = "" if prediction.probability is None else f"{prediction.probability:.4f}"
    return [plain(prediction.label), probability]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    with np.errstate(over="ignore"):
        narrow = float(np.float32(value)) == value
    if not narrow:
        # FP64, with the digits that float32 does not have: around 1.7e9 nothing else tells answers apart.
        return f"{value:.15g}" if _WHOLE.start <= abs(value) else f"{value:.12g}"
    return f"{value:.0f}" if _WHOLE.start <= abs(value) < _WHOLE.stop else f"{value:.6g}"
