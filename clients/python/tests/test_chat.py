"""`chat`: answers as they come, a conversation that is kept, and what ends it."""

from __future__ import annotations

import json

import grpc
import pytest
from headrace_client import InferenceClient, Turn
from headrace_client.cli import chat
from headrace_client.errors import InvalidRequest

TEXTS = [("text_input", "BYTES", [1]), ("stream", "BOOL", [1]), ("sampling_parameters", "BYTES", [1])]
ENDED = (grpc.StatusCode.INVALID_ARGUMENT, "input 'text_input': expected at most 10 tokens, got 12")


@pytest.fixture
def written(inference):
    inference.model, inference.inputs = "mill", TEXTS
    return inference


def said(request):
    return {
        tensor.name: raw[4:].decode() if tensor.datatype == "BYTES" else bool(raw[0])
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def test_one_question_is_answered_and_that_is_all(headrace, written):
    asked = ("--once", "who turns it?", "--system", "be brief", "--max-tokens", "9", "--seed", "3")
    result = headrace("chat", "mill", *asked, "--temperature", "0.5")
    assert (result.exit_code, result.stdout) == (0, "the river\n")
    assert "version 2 (q4), 2 tokens, the first after" in result.stderr
    (request,) = written.requests
    assert request.parameters["chat"].bool_param
    given = said(request)
    assert json.loads(given["text_input"]) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "who turns it?"},
    ]
    assert given["stream"] is True
    assert json.loads(given["sampling_parameters"]) == {"max_tokens": 9, "temperature": 0.5, "seed": 3}


def test_json_is_one_object(headrace, written):
    result = headrace("chat", "mill", "--once", "who?", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["answer"], told["answer_tokens"], told["prediction_id"]) == ("the river", 2, "prediction-1")
    assert (told["version"], told["variant"], told["cached"]) == ("2", "q4", False)
    assert result.stderr == ""


def test_what_is_piped_in_is_one_conversation(headrace, written):
    result = headrace("chat", "mill", stdin="who?\n\nand when?\n/new\nwhy?\n")
    assert (result.exit_code, result.stdout) == (0, "the river\n" * 3)
    conversations = [json.loads(said(request)["text_input"]) for request in written.requests]
    assert [[turn["content"] for turn in turns] for turns in conversations] == [
        ["who?"],
        ["who?", "the river", "and when?"],
        ["why?"],
    ]


def test_what_a_model_writes_steers_no_terminal(headrace, written):
    written.words = ["red \x1b[31m", "text\n"]
    assert headrace("chat", "mill", "--once", "?").stdout == "red \\x1b[31mtext\n\n"


def test_an_answer_that_fails_in_the_middle_is_none(headrace, written):
    written.words = ["the ", ENDED]
    result = headrace("chat", "mill", "--once", "?", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert ENDED[1] in result.stderr
    with InferenceClient(written.address) as client:
        parts = client.converse("mill", [Turn("user", "?")])
        assert next(parts).text == "the "
        with pytest.raises(InvalidRequest, match="at most 10 tokens"):
            next(parts)


def test_wrong_usage_is_named(headrace, inference, written):
    assert "--once" in headrace("chat", "mill", "--json").stderr
    assert "'no' is not served" in headrace("chat", "no", "--once", "?").stderr
    inference.inputs = [("pixels", "FP32", [-1, 2, 2])]
    refused = headrace("chat", "mill", "--once", "?")
    assert refused.exit_code == 1
    assert "model 'mill' is no model of language: `headrace predict mill` asks it" in refused.stderr


class Terminal:
    """Somebody who types: lines, and interrupts."""

    def __init__(self, *typed):
        self.typed = iter(typed)

    def isatty(self):
        return True

    def input(self, _prompt):
        line = next(self.typed, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line


def test_ctrl_c_ends_the_answer_and_not_the_program(written, monkeypatch, capsys):
    terminal = Terminal("first?", KeyboardInterrupt(), "second?", "third?")
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("builtins.input", terminal.input)
    asked = []

    class Interrupted(InferenceClient):
        def converse(self, model, turns, **sampling):
            asked.append([turn.content for turn in turns])
            for part in super().converse(model, turns, **sampling):
                yield part
                if len(asked) == 1:
                    raise KeyboardInterrupt

    with Interrupted(written.address) as client:
        chat._converse(chat._Talk(client, "mill", [], {}))
    out, err = capsys.readouterr()
    assert out == "the \n\nthe river\nthe river\n"
    assert "ended; neither" in err
    assert asked == [["first?"], ["second?"], ["second?", "the river", "third?"]]
