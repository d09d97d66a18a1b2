"""`explain`: JSON rows in, what each of their values adds to the prediction out."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import islice
from typing import Annotated, Any

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.files import STANDARD_INPUT, EncodingOption
from headrace_client.cli.output import JsonOption, plain, print_json, print_parts, table
from headrace_client.cli.rows import InputsOption, RowsFile, read_inputs, shortened, tell_unknown
from headrace_client.errors import RowsInvalid
from headrace_client.explanation import Explanation, explain_rows
from headrace_client.inference import InferenceClient
from headrace_client.prediction import unknown_fields


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    file: RowsFile = STANDARD_INPUT,
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            metavar="FILE",
            help="Rows of which the mean and the most frequent text take the place of a value; "
            "without them it is missing, or a text that no row has had.",
        ),
    ] = "",
    most: Annotated[int, typer.Option("--most", min=1, help="Values that are shown of each row.")] = 12,
    inputs: InputsOption = False,
    encoding: EncodingOption = "",
    as_json: JsonOption = False,
) -> None:
    """Explain predictions: how much less the answer would be without each value of the row.

    Each value is taken away alone. What values add together only is told at the end.
    """
    with InferenceClient(find_addresses().inference) as client:
        read = partial(read_inputs, client, model, are_inputs=inputs, encoding=encoding)
        rows, references = read(file), read(reference) if reference else []
        tell_unknown(model, unknown_fields(rows, client.inputs(model)))
        try:
            explained = explain_rows(client, model, rows, references)
        except RowsInvalid as error:
            raise shortened(error) from error
    if as_json:
        print_json([dataclasses.asdict(each) for each in explained])
        return
    pairs = enumerate(zip(explained, rows, strict=True), start=1)
    print_parts([_table(number, each, row, most) for number, (each, row) in pairs])


def _table(number: int, explained: Explanation, row: dict[str, Any], most: int) -> Any:
    label = "" if explained.label is None else f"{explained.label} "
    title = f"row {number}: {label}{explained.answer:.6g}, version {explained.version}"
    lines = [
        [plain(value), plain(_given(row, value)), _signed(added)]
        for value, added in islice(explained.added.items(), most)
    ]
    if (rest := len(explained.added) - len(lines)) > 0:
        lines.append([f"{rest} more", "", _signed(sum(islice(explained.added.values(), most, None)))])
    lines += [["only together", "", _signed(explained.remainder)], ["reference", "", f"{explained.reference:.6g}"]]
    return table(["value", "given", ">adds"], lines, title=title)


def _given(row: dict[str, Any], value: str) -> str:
    """Return what a row gives for a value; empty for one of many."""
    return "" if row.get(value) is None else str(row[value])


def _signed(number: float) -> str:
    return f"{number:+.6g}"
