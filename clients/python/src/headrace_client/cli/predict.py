"""`predict`: JSON rows in, predictions out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final, NoReturn

import numpy as np
import typer
from headrace_data.json_keys import KeyRepeated, unique_object

from headrace_client.addresses import find_addresses
from headrace_client.cli.files import STANDARD_INPUT, read_file
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, table
from headrace_client.errors import InputInvalid, RowProblem, RowsInvalid
from headrace_client.inference import InferenceClient
from headrace_client.prediction import Prediction, predict_rows, unknown_fields

_WHOLE: Final = range(10**6, 10**15)
"""Numbers of this size are shown whole: as powers of ten nobody reads prices."""

PROBLEMS_SHOWN = 20
FIELDS_SHOWN = 12

Rows = list[dict[str, Any]]


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="JSON rows: an object on each line, or one array of objects; standard input when left out.",
        ),
    ] = STANDARD_INPUT,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows in one call; a call is cached as a whole.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Predict rows. Each row names the model's inputs; what may be missing is null or not there.

    Other fields are left out, and named on standard error.
    """
    rows = parse_rows(_read(file))
    with InferenceClient(find_addresses().inference) as client:
        started = time.perf_counter()
        inputs = client.inputs(model)
        _tell_unknown(model, unknown_fields(rows, inputs))
        try:
            predictions = predict_rows(client, model, rows, batch=batch, inputs=inputs)
        except RowsInvalid as error:
            raise _shortened(error) from error
        elapsed_s = time.perf_counter() - started
    if as_json:
        print_json([_view(prediction) for prediction in predictions])
        return
    _print(predictions)
    cached = sum(prediction.cached for prediction in predictions)
    plural = "" if len(rows) == 1 else "s"
    note(f"{len(rows)} row{plural} in {elapsed_s * 1000:.0f} ms, {cached} from the cache")


def _tell_unknown(model: str, unknown: dict[str, str]) -> None:
    if not unknown:
        return
    # What was probably mistyped comes first: of a producer's own records there may be many fields that are no input.
    ranked = sorted(unknown, key=lambda name: not unknown[name])
    shown = [f"'{name}'" + (f" (did you mean '{unknown[name]}'?)" if unknown[name] else "") for name in ranked]
    more = f" and {len(shown) - FIELDS_SHOWN} more" if len(shown) > FIELDS_SHOWN else ""
    note(f"left out, as model '{model}' has no such input: {', '.join(shown[:FIELDS_SHOWN])}{more}")


def parse_rows(text: str) -> Rows:
    """Return the rows of a JSON array of objects, or of one JSON object on each line. Raises InputInvalid."""
    if not text.strip():
        raise InputInvalid("there is no row: expected JSON objects, one on each line, or one array of them")
    try:
        # An array, or one object that may stretch over several lines.
        whole = _loads(text)
        values = whole if isinstance(whole, list) else [whole]
    except KeyRepeated as error:
        raise InputInvalid(str(error)) from error
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise InputInvalid(f"not a JSON array: {error}") from error
        values = list(_lines(text))
    problems = [
        RowProblem(number, "", f"expected an object, got {json.dumps(value)[:40]}")
        for number, value in enumerate(values, start=1)
        if not isinstance(value, dict)
    ]
    if problems:
        raise _shortened(RowsInvalid(problems))
    if not values:
        raise InputInvalid("there is no row: the array is empty")
    return values


def _lines(text: str) -> Iterator[Any]:
    # JSON ends no line where Python does: a text may hold other separators, such as U+2028, as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _loads(line)
            except KeyRepeated as error:
                raise InputInvalid(f"line {number}: {error}") from error
            except ValueError as error:
                raise InputInvalid(f"line {number}: not JSON: {error}") from error


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=unique_object)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _read(file: str) -> str:
    try:
        return read_file(file).decode()
    except UnicodeDecodeError as error:
        raise InputInvalid(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _shortened(error: RowsInvalid) -> InputInvalid:
    hidden = len(error.problems) - PROBLEMS_SHOWN
    if hidden <= 0:
        return error
    shown = "\n".join(str(problem) for problem in error.problems[:PROBLEMS_SHOWN])
    return InputInvalid(f"{shown}\nand {hidden} more")


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
    numbers = any(prediction.prediction is not None for prediction in predictions)
    rows = [
        [
            str(prediction.row),
            *([_number(prediction.prediction)] if numbers else _class(prediction)),
            plain(prediction.version),
            plain(prediction.variant or ""),
            "yes" if prediction.cached else "no",
        ]
        for prediction in predictions
    ]
    answers = [">prediction"] if numbers else ["label", ">probability"]
    print_parts([table([">row", *answers, "version", "variant", "=cached"], rows)])


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
