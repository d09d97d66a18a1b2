"""JSON rows that a command reads from a file or from standard input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import orjson
import typer
from headrace_data.json_keys import KeyRepeated, unique_object
from headrace_data.json_texts import texts_in

from headrace_client.addresses import find_addresses
from headrace_client.cli.files import read_file
from headrace_client.cli.output import note
from headrace_client.errors import InputInvalid, NotReady, RowProblem, RowsInvalid, TimedOut, Unreachable
from headrace_client.registry import RegistryClient
from headrace_client.selecting import (
    FILES,
    file_record,
    is_one_record,
    require_files,
    selected_rows,
    selecting_stream,
    stream_of_files,
)

if TYPE_CHECKING:
    from headrace_data.spec import Stream

    from headrace_client.inference import InferenceClient

PROBLEMS_SHOWN = 20
FIELDS_SHOWN = 12
_REGISTRY_S = 3.0
"""How long the registry is waited for: predictions need none."""

Rows = list[dict[str, Any]]

RowsFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="JSON rows: an object on each line, or one array of objects; standard input when left out. Or a CSV, "
        "Parquet or Arrow file; or of a pipeline of pictures or sounds one of these.",
    ),
]


InputsOption = Annotated[
    bool,
    typer.Option(
        "--inputs",
        help="The rows hold the model's inputs, and not records of its pipeline: stream.select is left out.",
    ),
]


def read_inputs(
    client: InferenceClient, model: str, file: str, *, are_inputs: bool = False, encoding: str = ""
) -> Rows:
    """Return the rows of a file as the inputs of a model: what its pipeline's SELECT makes of them, where it has one.

    The rows are those of JSON or of a table, whose texts may be in another `encoding`, or the one that a picture or a
    sound is. Where no registry answers they
    are taken as they are. Raises InputInvalid, what the client does for a file of CSV, whose cells do not say what they
    are, and what the registry's does for a picture or a sound.
    """
    stream = None if are_inputs else _selecting(model)
    table = _table_format(file)
    if stream is not None:
        try:
            if table is None:
                return selected_rows(*_records(model, stream, read_file(file)))
            rows = _read_table(client, model, Path(file), table, stream, encoding)
            return selected_rows(stream.in_json, [orjson.dumps(row) for row in rows])
        except RowsInvalid as error:
            raise shortened(error) from error
    return _read(model, file) if table is None else _read_table(client, model, Path(file), table, stream, encoding)


def read_records(file: str) -> list[bytes]:
    """Return the records in a file as they are: JSON, or the one that a file of no text is. Raises InputInvalid."""
    if _table_format(file) is not None:
        raise InputInvalid(f"{file}: expected records as producers send them, got a table, whose rows are none yet")
    data = read_file(file)
    return [data] if is_one_record(data) else _records_in(data)


def _records(model: str, stream: Stream, data: bytes) -> tuple[Stream, list[bytes]]:
    """Return the records in a file, and the stream that they are of: of another format they are in JSON."""
    if data.startswith(FILES):
        return require_files(stream, model), [data]
    records = _records_in(data)
    return stream if stream.format_kind == "json" else stream.in_json, records


def _records_in(data: bytes) -> list[bytes]:
    try:
        records = texts_in(data)
    except ValueError as error:
        raise InputInvalid(f"not a JSON array: {error}") from error
    if not records:
        raise InputInvalid("there is no row: expected JSON objects, one on each line, or one array of them")
    return records


def _selecting(model: str) -> Stream | None:
    """Return the stream of a model's pipeline where that has a SELECT, and a registry answers."""
    try:
        with RegistryClient(find_addresses().registry, timeout_s=_REGISTRY_S) as registry:
            return selecting_stream(registry, model)
    except (Unreachable, TimedOut, NotReady):
        return None


def _read(model: str, file: str) -> Rows:
    data = read_file(file)
    if not data.startswith(FILES):
        return parse_rows(_text(file, data))
    with RegistryClient(find_addresses().registry, timeout_s=_REGISTRY_S) as registry:
        return [file_record(stream_of_files(registry, model), data)]


def _table_format(file: str) -> str | None:
    """Return the format of a file that is a table; None of JSON, and of standard input."""
    from headrace_client.backfilling import FORMATS

    found = FORMATS.get(Path(file).suffix.lower())
    return None if found == "jsonl" or not Path(file).is_file() else found


def _read_table(
    client: InferenceClient, model: str, path: Path, file_format: str, stream: Stream | None, encoding: str
) -> Rows:
    from headrace_client.row_files import digest, table

    if stream is None:
        texts = {tensor.name: tensor.datatype == "BYTES" for tensor in client.inputs(model)}
    else:
        from headrace_data.select.needs import needs_of

        texts = needs_of(stream).texts
    digest(path, file_format, encoding)  # which tells of a text in another one
    return table(path, file_format, texts, stream, encoding)


def tell_unknown(model: str, unknown: dict[str, str]) -> None:
    """Name the fields that are no input of a model on standard error."""
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
        raise shortened(RowsInvalid(problems))
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


def _text(file: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        told = f"{file} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise InputInvalid(f"{told}; a record in its pipeline's own format is read with --on-server") from error


def shortened(error: RowsInvalid) -> InputInvalid:
    """Return the error with no more problems than one reads."""
    hidden = len(error.problems) - PROBLEMS_SHOWN
    if hidden <= 0:
        return error
    shown = "\n".join(str(problem) for problem in error.problems[:PROBLEMS_SHOWN])
    return InputInvalid(f"{shown}\nand {hidden} more")
