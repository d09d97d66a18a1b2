"""`predict`: what a file or standard input may hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from headrace_client.errors import InputInvalid
from headrace_client.tensors import to_raw

ROW = {"id": "a", "pixels": [[1, 2], [0, 1]]}
LINE = json.dumps(ROW)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no row"),
        ("[]", "there is no row: the array is empty"),
        ("[{]", "not a JSON array"),
        (LINE + "\n{oops", "line 2: not JSON"),
        ('{"pixels": NaN}', "NaN is no JSON number"),
        ("[1, {}]", "row 1: expected an object, got 1"),
        (LINE + "\n[1]", "row 2: expected an object, got [1]"),
        ("[" * 100_000, "not a JSON array: it is nested too deep"),
        (LINE + '\n\n{"a":' + "[" * 100_000, "line 3: not JSON: it is nested too deep"),
        (LINE + "\n" + "[" * 900 + "]" * 900, "row 2: expected an object, got [["),
    ],
)
def test_text_that_holds_no_rows(headrace, inference, text, message):
    result = headrace("predict", "digits", stdin=text)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('"\\ud800"', "row 2, field 'colour': expected a string (BYTES), got half of a surrogate pair"),
        ("[" * 900 + "]" * 900, "row 2, field 'colour': it is nested too deep"),
    ],
)
def test_a_value_that_nothing_can_hold_is_named(headrace, inference, value, told):
    inference.inputs = [("colour", "BYTES", [-1])]
    result = headrace("predict", "digits", stdin=f'{{"colour": "red"}}\n{{"colour": {value}, "\\ud800": 1}}')
    assert result.exit_code == 1
    assert told in result.stderr
    assert "unexpected" not in result.stderr
    with pytest.raises(InputInvalid, match="half of a surrogate pair"):
        to_raw(np.array(["\ud800"], object), "BYTES")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_lines_end_where_json_ends_them(headrace, inference, separator):
    rows = [json.dumps(row | {"id": f"a{separator}b"}, ensure_ascii=False) for row in (ROW, ROW)]
    result = headrace("predict", "digits", "--json", stdin="\r\n".join(rows))
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)) == 2


def test_a_file_that_is_not_there_is_wrong_usage(headrace, tmp_path):
    assert headrace("predict", "digits", str(tmp_path / "none.json")).exit_code == 2


def test_a_file_that_is_no_text(headrace, tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xff\xfe")
    result = headrace("predict", "digits", str(path))
    assert result.exit_code == 1
    assert "is not UTF-8 text" in result.stderr
