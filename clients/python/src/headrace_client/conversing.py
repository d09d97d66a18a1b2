"""Conversations with models of language: Triton's ModelStreamInfer, an answer in parts as they are written."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from headrace import open_inference

from headrace_client.errors import AnswerInvalid
from headrace_client.tensors import from_raw, to_raw

TEXT_INPUT: Final = "text_input"
"""The input by which a model of language is known."""
ENDS_WITH_ERRORS: Final = ("triton_grpc_error", "true")
"""Metadata that lets a stream end with the status of its error."""
_ENDS: Final = "triton_enable_empty_final_response"
_FINAL: Final = "triton_final_response"


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Part:
    """What one message adds to an answer. The last part has no text; it tells how the answer ended, and its id."""

    text: str
    tokens: int
    prompt_tokens: int
    finish: str
    """Why the answer ended: `stop`, at the model's own end, or `length`; empty before the end."""
    version: str
    variant: str
    prediction_id: str = ""
    """Of the whole answer; empty before the last part."""
    cached: bool = False


def request_of(model: str, turns: Sequence[Turn], version: str, sampling: dict[str, Any]) -> Any:
    """Return the ModelInferRequest for the answer to a conversation, part by part."""
    conversation = json.dumps([{"role": turn.role, "content": turn.content} for turn in turns])
    request = open_inference.ModelInferRequest(model_name=model, model_version=version)
    given: dict[str, Any] = {TEXT_INPUT: conversation, "stream": True, "sampling_parameters": json.dumps(sampling)}
    for name, value in given.items():
        datatype = "BOOL" if isinstance(value, bool) else "BYTES"
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        array = np.array([value], dtype=bool if isinstance(value, bool) else object)
        request.raw_input_contents.append(to_raw(array, datatype))
    request.parameters["chat"].bool_param = True
    request.parameters[_ENDS].bool_param = True
    return request


def parts_of(messages: Generator[Any, None, None]) -> Generator[Part, None, None]:
    """Yield the parts of an answer. Raises AnswerInvalid where it ends before its last part."""
    finish = ""
    with closing(messages):
        for message in messages:
            if message.error_message:
                raise AnswerInvalid(f"inference ended an answer: {message.error_message}")
            part = _part(message.infer_response, finish)
            finish = part.finish
            yield part
            if message.infer_response.parameters[_FINAL].bool_param:
                return
    raise AnswerInvalid("inference ended the stream before the end of an answer")


def _part(answer: Any, finish: str) -> Part:
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    values = {each.name: from_raw(raw, each.datatype, each.shape)[0] for each, raw in pairs}
    told = answer.parameters
    return Part(
        text=str(values.get("text_output", "")),
        tokens=int(values.get("num_output_tokens", 0)),
        prompt_tokens=int(values.get("num_input_tokens", 0)),
        finish=str(values.get("finish_reason", "")) or finish,
        version=answer.model_version,
        variant=told["variant"].string_param,
        prediction_id=told["prediction_id"].string_param,
        cached=told["cached"].bool_param,
    )
