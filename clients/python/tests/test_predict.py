"""`predict`: rows in many shapes, answers row by row, errors that name row and field."""

from __future__ import annotations

import json

import numpy as np
import pytest
from headrace import open_inference
from headrace_client import InferenceClient, predict_rows
from headrace_client.errors import AnswerInvalid, InputInvalid, NotFound, NotReady, RowsInvalid

ROW = {"id": "a", "pixels": [[1, 2], [0, 1]]}
OTHER = {"id": "b", "pixels": [[3.5, 0], [0, 0.5]]}


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def test_prints_a_line_for_each_row(headrace, inference, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(ROW, OTHER, ROW))
    result = headrace("predict", "digits", str(path))
    assert result.exit_code == 0, result.output
    assert "row" in result.stdout
    body = [line.split() for line in result.stdout.splitlines() if "int8" in line]
    assert body == [
        ["1", "4", "0.7500", "2", "int8", "no"],
        ["2", "4", "0.7500", "2", "int8", "no"],
        ["3", "4", "0.7500", "2", "int8", "yes"],
    ]
    assert "3 rows in" in result.stderr
    assert "1 from the cache" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        lines(ROW, OTHER),
        json.dumps([ROW, OTHER]),
        json.dumps([ROW, OTHER], indent=2),
        "\n\n" + lines(ROW, OTHER) + "\n\n",
    ],
    ids=["lines", "array", "indented array", "blank lines"],
)
def test_reads_rows_from_standard_input(headrace, inference, text):
    result = headrace("predict", "digits", "--json", stdin=text)
    assert result.exit_code == 0, result.output
    assert [row["label"] for row in json.loads(result.stdout)] == [4, 4]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_fields_that_are_no_input_are_named_once(headrace, inference, options):
    inference.inputs, inference.answer = TABLE, regression
    inference.optional = {"length": True, "pair": True, "colour": True}
    rows = [{"id": "a", "lenght": 1.5, "colour": "red"}, {"id": "b", "length": 2.5, "colours": "red", "colour": "red"}]
    result = headrace("predict", "digits", *options, stdin=lines(*rows))
    assert result.exit_code == 0, result.output
    told = "left out, as model 'digits' has no such input: 'lenght' (did you mean 'length'?), 'id', 'colours'"
    assert [line for line in result.stderr.splitlines() if "left out" in line] == [told]
    if options:
        assert len(json.loads(result.stdout)) == 2


def test_of_many_fields_that_are_no_input_some_are_named(headrace, inference):
    row = {"pixels": ROW["pixels"], **{f"field {number}": number for number in range(300)}}
    noted = headrace("predict", "digits", stdin=lines(row)).stderr.splitlines()[0]
    assert noted.endswith("'field 11' and 288 more")


def test_the_json_shape(headrace, inference):
    result = headrace("predict", "digits", "-", "--json", stdin=lines({"pixels": ROW["pixels"]}))
    assert result.stderr == ""
    assert json.loads(result.stdout) == [
        {
            "row": 1,
            "label": 4,
            "probability": 0.75,
            "probabilities": [0.25, 0.75],
            "prediction": None,
            "model": "digits",
            "version": "2",
            "variant": "int8",
            "prediction_id": "prediction-1",
            "cached": False,
            "outputs": {},
        }
    ]


def test_one_object_over_several_lines_is_a_row(headrace, inference):
    result = headrace("predict", "digits", "--json", stdin=json.dumps(ROW, indent=2))
    assert len(json.loads(result.stdout)) == 1


def test_sends_typed_tensors(headrace, inference):
    headrace("predict", "digits", stdin=lines(ROW))
    (request,) = inference.requests
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("pixels", "FP32", [1, 2, 2])
    assert np.frombuffer(request.raw_input_contents[0], "<f4").tolist() == [1, 2, 0, 1]


def test_rows_travel_in_batches(headrace, inference):
    result = headrace("predict", "digits", "--batch", "2", "--json", stdin=lines(ROW, OTHER, ROW))
    assert [row["row"] for row in json.loads(result.stdout)] == [1, 2, 3]
    assert [list(request.inputs[0].shape) for request in inference.requests] == [[2, 2, 2], [1, 2, 2]]


@pytest.mark.parametrize(
    ("inputs", "row", "problem"),
    [
        ([("pixels", "FP32", [-1, 2, 2])], {"id": 1, "pixel": 3}, "missing; the row has id, pixel"),
        ([("pixels", "FP32", [-1, 2, 2])], {}, "missing; the row has no field at all"),
        ([("pixels", "INT64", [-1])], {}, "missing; the row has no field at all"),
        ([("pixels", "INT64", [-1])], {"pixels": None}, "expected a whole number (INT64), got null"),
        (
            [("pixels", "FP32", [-1, 2, 2])],
            {"pixels": [[1, 2, 3], [4, 5, 6]]},
            "expected shape [2, 2], got shape [2, 3]",
        ),
        ([("pixels", "FP32", [-1, 2, 2])], {"pixels": 5}, "expected shape [2, 2], got a single value"),
        (
            [("pixels", "FP32", [-1, 2, 2])],
            {"pixels": [[1, 2], [3]]},
            "ragged: item [1] is shape [1], but item [0] is shape [2]",
        ),
        (
            [("pixels", "FP32", [-1, 2, 2])],
            {"pixels": [[1, 2], [3, "4"]]},
            "item [1, 1]: expected a number (FP32), got '4'",
        ),
        (
            [("pixels", "FP32", [-1, 2, 2])],
            {"pixels": [[1, None], [3, 4]]},
            "item [0, 1]: expected a number (FP32), got null",
        ),
        ([("pixels", "FP32", [-1])], {"pixels": 1e300}, "expected a number (FP32), got 1e+300"),
        ([("pixels", "INT8", [-1])], {"pixels": 200}, "expected a whole number (INT8), got 200"),
        ([("pixels", "INT64", [-1])], {"pixels": 1.5}, "expected a whole number (INT64), got 1.5"),
        ([("pixels", "INT64", [-1])], {"pixels": True}, "expected a whole number (INT64), got true"),
        ([("pixels", "BOOL", [-1])], {"pixels": 1}, "expected true or false (BOOL), got 1"),
        ([("pixels", "BYTES", [-1])], {"pixels": 1}, "expected a string (BYTES), got 1"),
        ([("pixels", "BYTES", [-1])], {"pixels": {}}, "expected a string (BYTES), got an object"),
        ([("pixels", "BF16", [-1])], {"pixels": 1}, "the model wants data type BF16, which this client cannot build"),
        ([("pixels", "FP32", [-1, -1])], {"pixels": 1}, "expected shape [any], got a single value"),
    ],
)
def test_a_row_that_does_not_fit_is_named(headrace, inference, inputs, row, problem):
    inference.inputs = inputs
    result = headrace("predict", "digits", stdin=lines(row))
    assert result.exit_code == 1
    assert result.stderr.endswith(f"error: row 1, field 'pixels': {problem}\n")
    assert not inference.requests, "nothing is sent when a row is wrong"


def test_every_wrong_row_is_named(headrace, inference):
    bad = {"pixels": 5}
    good = {"pixels": ROW["pixels"]}
    result = headrace("predict", "digits", "--batch", "2", stdin=lines(good, bad, good, bad, {}))
    assert result.exit_code == 1
    named = [line.partition(":")[0] for line in result.stderr.replace("error: ", "").splitlines()]
    assert named == ["row 2, field 'pixels'", "row 4, field 'pixels'", "row 5, field 'pixels'"]


def test_a_long_list_of_wrong_rows_is_cut(headrace, inference):
    result = headrace("predict", "digits", stdin=lines(*[{}] * 50))
    assert len(result.stderr.splitlines()) == 21
    assert result.stderr.splitlines()[-1] == "and 30 more"


def test_an_unknown_model_is_said_in_the_servers_words(headrace, inference):
    result = headrace("predict", "letters", stdin=lines(ROW))
    assert result.exit_code == 1
    assert "model 'letters' is not served; served are: digits" in result.stderr


def test_nobody_there(headrace):
    result = headrace("predict", "digits", stdin=lines(ROW))
    assert result.exit_code == 1
    assert "cannot reach inference at 127.0.0.1:1: is the platform up? run `headrace up`" in result.stderr


def test_a_model_that_loads_is_waited_for(inference):
    inference.not_ready = 2
    with InferenceClient(patience_s=10) as client:
        assert client.metadata("digits").versions == ("1", "2")
    inference.not_ready = 1
    with InferenceClient(patience_s=0) as client, pytest.raises(NotReady, match="is not ready: loading"):
        client.metadata("digits")


def test_text_labels_and_further_outputs(inference):
    def answer(request):
        built = open_inference.ModelInferResponse(model_name="digits", model_version="1", id="echo")
        built.outputs.add(name="label", datatype="BYTES", shape=[1])
        built.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
        built.outputs.add(name="score", datatype="FP64", shape=[1, 1])
        built.raw_output_contents.append(b"\x05\x00\x00\x00seven")
        built.raw_output_contents.append(np.array([0.5, 0.125], "<f4").tobytes())
        built.raw_output_contents.append(np.array([2.5], "<f8").tobytes())
        return built

    inference.answer = answer
    with InferenceClient() as client:
        (prediction,) = predict_rows(client, "digits", [ROW])
    assert (prediction.label, prediction.probability, prediction.outputs) == ("seven", 0.5, {"score": [2.5]})
    assert (prediction.variant, prediction.cached, prediction.prediction_id) == (None, False, "echo")


def regression(request):
    rows = request.inputs[0].shape[0]
    answer = open_inference.ModelInferResponse(model_name="digits", model_version="3")
    answer.outputs.add(name="prediction", datatype="FP32", shape=[rows])
    answer.raw_output_contents.append((np.arange(rows) + 4200.25).astype("<f4").tobytes())
    return answer


TABLE = [("length", "FP32", [-1]), ("pair", "FP64", [-1, 2]), ("colour", "BYTES", [-1])]


def test_null_travels_as_nan_and_as_an_empty_text(headrace, inference):
    inference.inputs, inference.answer = TABLE, regression
    rows = [{"length": None, "pair": None, "colour": None}, {"length": 1.5, "pair": [2, 3], "colour": "grün"}]

    result = headrace("predict", "digits", "--json", "--batch", "2", stdin=lines(*rows))

    assert result.exit_code == 0, result.output
    (request,) = inference.requests
    length, pair, colour = request.raw_input_contents
    np.testing.assert_array_equal(np.frombuffer(length, "<f4"), np.array([np.nan, 1.5], "<f4"))
    np.testing.assert_array_equal(np.frombuffer(pair, "<f8"), [np.nan, np.nan, 2, 3])
    assert colour == b"\x00\x00\x00\x00\x05\x00\x00\x00" + "grün".encode()


def test_what_the_server_calls_optional_may_be_left_out_of_a_row(headrace, inference):
    inference.inputs, inference.answer = TABLE, regression
    inference.optional = {"length": True, "pair": True, "colour": False}

    result = headrace("predict", "digits", stdin=lines({"colour": "red"}))
    refused = headrace("predict", "digits", stdin=lines({"colour": None}, {"length": 1}))

    assert result.exit_code == 0, result.output
    (request,) = inference.requests
    assert np.isnan(np.frombuffer(request.raw_input_contents[0], "<f4")).all()
    assert np.isnan(np.frombuffer(request.raw_input_contents[1], "<f8")).tolist() == [True, True]
    assert refused.exit_code == 1
    assert "row 1, field 'colour': expected a string (BYTES), got null" in refused.stderr
    assert "row 2, field 'colour': missing; the row has length" in refused.stderr


def test_booleans_are_sent_as_the_model_takes_them(headrace, inference):
    inference.inputs, inference.answer = [("tame", "UINT8", [-1]), ("ringed", "FP64", [-1])], regression
    rows = lines({"tame": True, "ringed": False}, {"tame": 0, "ringed": None})

    result = headrace("predict", "digits", "--batch", "2", stdin=rows)

    assert result.exit_code == 0, result.output
    (request,) = inference.requests
    assert request.raw_input_contents[0] == b"\x01\x00"
    np.testing.assert_array_equal(np.frombuffer(request.raw_input_contents[1], "<f8"), [0, np.nan])


def test_a_number_is_shown_as_what_is_predicted(headrace, inference):
    inference.answer = regression
    table = headrace("predict", "digits", "--batch", "2", stdin=lines(ROW, OTHER)).stdout
    views = json.loads(headrace("predict", "digits", "--json", stdin=lines(ROW)).stdout)

    assert table.split()[:2] == ["row", "prediction"]
    assert ["1", "4200.25", "3", "no"] in [line.split() for line in table.splitlines()]
    assert ["2", "4201.25", "3", "no"] in [line.split() for line in table.splitlines()]
    assert (views[0]["prediction"], views[0]["label"], views[0]["outputs"]) == (4200.25, None, {})


def test_answers_in_float64_are_shown_with_the_digits_that_tell_them_apart(headrace, inference):
    def answer(request):
        response = regression(request)
        response.outputs[0].datatype = "FP64"
        response.raw_output_contents[0] = np.array([1e12 + 0.25, 1.7e9 + 0.3]).astype("<f8").tobytes()
        return response

    inference.answer = answer
    table = headrace("predict", "digits", "--batch", "2", stdin=lines(ROW, OTHER)).stdout

    assert ["1", "1000000000000.25", "3", "no"] in [line.split() for line in table.splitlines()]
    assert ["2", "1700000000.3", "3", "no"] in [line.split() for line in table.splitlines()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"ts": 1, "ts": 2}', 'expected each key of an object once, got "ts" more than once'),
        ('{"f": 1, "\\u0066": 2}', 'expected each key of an object once, got "f" more than once'),
        ('[{"a": 1}, {"a": 1, "a": 1}]', 'expected each key of an object once, got "a" more than once'),
        ('{"a": 1}\n{"a": {"b": 1, "b": 2}}', 'line 2: expected each key of an object once, got "b" more than once'),
    ],
)
def test_a_row_with_a_key_twice_is_refused_by_name(headrace, text, told):
    result = headrace("predict", "digits", stdin=text)

    assert result.exit_code != 0
    assert told in result.stderr


def test_arrays_of_objects_are_texts_or_numbers(inference):
    inference.answer = regression
    inputs = {
        "texts": np.array(["a", None, float("nan"), ""], object),
        "numbers": np.array([1, None, 2.5, float("nan")], object),
        "words": np.array(["ab", "c", "", "d"]),
    }
    with InferenceClient(inference.address) as client:
        client.infer("digits", inputs, outputs=("label",))
        with pytest.raises(InputInvalid, match="expected texts in an array of objects, got 7"):
            client.infer("digits", {"mixed": np.array(["a", 7], object)})
        with pytest.raises(InputInvalid, match="outputs: expected a list of names, got 'label'"):
            client.infer("digits", inputs, outputs="label")

    (request,) = inference.requests
    assert [tensor.datatype for tensor in request.inputs] == ["BYTES", "FP64", "BYTES"]
    assert [tensor.name for tensor in request.outputs] == ["label"]
    assert request.raw_input_contents[0] == b"\x01\x00\x00\x00a" + bytes(12)
    np.testing.assert_array_equal(np.frombuffer(request.raw_input_contents[1], "<f8"), [1, np.nan, 2.5, np.nan])


def test_typed_answers_are_read_too(inference):
    def answer(request):
        built = open_inference.ModelInferResponse(model_name="digits", model_version="1")
        label = built.outputs.add(name="label", datatype="BYTES", shape=[1])
        label.contents.bytes_contents.append(b"seven")
        probabilities = built.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
        probabilities.contents.fp32_contents.extend([0.25, 0.75])
        return built

    inference.answer = answer
    with InferenceClient() as client:
        (prediction,) = predict_rows(client, "digits", [ROW])
    assert (prediction.label, prediction.probabilities) == ("seven", (0.25, 0.75))


@pytest.mark.parametrize(
    ("shape", "raw", "message"),
    [([1], b"\x00" * 3, "3 bytes do not hold INT64"), ([2], b"\x00" * 16, "for 1 rows")],
)
def test_an_answer_that_breaks_the_protocol(inference, shape, raw, message):
    def answer(request):
        built = open_inference.ModelInferResponse(model_name="digits", model_version="1")
        built.outputs.add(name="label", datatype="INT64", shape=shape)
        built.raw_output_contents.append(raw)
        return built

    inference.answer = answer
    with InferenceClient() as client, pytest.raises(AnswerInvalid, match=message):
        predict_rows(client, "digits", [ROW])


def test_the_client_takes_arrays(inference):
    with InferenceClient() as client:
        assert client.ready()
        result = client.infer("digits", {"pixels": np.ones((3, 2, 2), np.float32)})
        assert result.outputs["label"].tolist() == [4, 4, 4]
        assert (result.version, result.variant, result.cached) == ("2", "int8", False)
        assert client.predict("digits", [ROW]).outputs["label"].tolist() == [4]
        with pytest.raises(RowsInvalid) as caught:
            client.predict("digits", [{"pixels": 1}])
        assert [(problem.row, problem.field) for problem in caught.value.problems] == [(1, "pixels")]
        with pytest.raises(InputInvalid, match="no row"):
            client.predict("digits", [])
        with pytest.raises(InputInvalid, match="complex128"):
            client.infer("digits", {"pixels": np.ones(1, np.complex128)})
        with pytest.raises(NotFound):
            client.metadata("letters")
