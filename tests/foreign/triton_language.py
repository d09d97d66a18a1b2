"""tritonclient's gRPC clients, as users of Triton's vLLM backend call a model of language."""

from __future__ import annotations

import json
import queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from checks import refused, run

PROMPT = "the river turns the wheel and"


def inputs(prompt: str = PROMPT, stream: bool | None = None, **sampling: Any) -> list[triton.InferInput]:
    """Return inputs as the client of the vLLM backend makes them."""
    texts = {"text_input": prompt}
    if sampling:
        texts["sampling_parameters"] = json.dumps(sampling)
    made = []
    for name, text in texts.items():
        made.append(triton.InferInput(name, [1], "BYTES"))
        made[-1].set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    if stream is not None:
        made.append(triton.InferInput("stream", [1], "BOOL"))
        made[-1].set_data_from_numpy(np.array([stream], dtype=bool))
    return made


def text(result: Any) -> str:
    return str(result.as_numpy("text_output")[0].decode())


def is_final(result: Any) -> bool:
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def streamed(client: triton.InferenceServerClient, *calls: dict[str, Any]) -> dict[str, list[Any]]:
    """Send calls on one stream, by their numbers; return the results of each, the last one final."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, call in enumerate(calls):
        client.async_stream_infer("words", request_id=str(number), **call)
    found: dict[str, list[Any]] = {str(number): [] for number in range(len(calls))}
    ended = 0
    while ended < len(calls):
        result, error = answers.get(timeout=60)
        assert error is None, error
        found[result.get_response().id].append(result)
        ended += is_final(result)
    client.stop_stream()
    assert answers.empty()
    return found


def check_the_model_says_that_it_is_decoupled(client: triton.InferenceServerClient) -> None:
    metadata, config = client.get_model_metadata("words"), client.get_model_config("words").config
    assert config.model_transaction_policy.decoupled
    assert [each.name for each in metadata.inputs] == ["text_input", "stream", "sampling_parameters"]
    assert [each.optional for each in config.input] == [False, True, True]
    assert metadata.outputs[0].name == "text_output"


def check_a_whole_answer(client: triton.InferenceServerClient) -> None:
    result = client.infer("words", inputs(max_tokens=12, temperature=0))
    assert result.as_numpy("num_output_tokens").tolist() == [12]
    assert result.as_numpy("finish_reason").tolist() == [b"length"]
    only = client.infer("words", inputs(max_tokens=12), outputs=[triton.InferRequestedOutput("text_output")])
    assert [each.name for each in only.get_response().outputs] == ["text_output"]
    assert text(only) == text(result)


def check_a_streamed_answer_is_the_whole_one(client: triton.InferenceServerClient) -> None:
    whole = text(client.infer("words", inputs(max_tokens=24)))
    (pieces,) = streamed(client, {"inputs": inputs(max_tokens=24, stream=True)}).values()
    assert len(pieces) > 12
    assert "".join(map(text, pieces)) == whole
    assert [is_final(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert sum(int(piece.as_numpy("num_output_tokens")[0]) for piece in pieces) == 24


def check_who_asks_for_an_empty_end_gets_one(client: triton.InferenceServerClient) -> None:
    for stream, messages in ((True, 2), (False, 1)):
        call = {"inputs": inputs(max_tokens=3, stream=stream), "enable_empty_final_response": True}
        (found,) = streamed(client, call).values()
        assert len(found) > messages
        assert not found[-1].get_response().outputs
        assert found[-1].get_response().parameters["prediction_id"].string_param
        assert all(found[place].get_response().outputs for place in range(len(found) - 1))


def check_calls_of_one_stream_are_answered_together(client: triton.InferenceServerClient) -> None:
    prompts = [f"{PROMPT} {word}" for word in ("mill", "day", "long", "does")]
    wanted = [text(client.infer("words", inputs(prompt, max_tokens=40))) for prompt in prompts]
    found = streamed(client, *({"inputs": inputs(prompt, stream=True, max_tokens=40)} for prompt in prompts))
    assert ["".join(map(text, pieces)) for pieces in found.values()] == wanted


def check_what_does_not_fit_is_named(client: triton.InferenceServerClient) -> None:
    wrongs: list[dict[str, Any]] = [{"max_tokens": 0}, {"temperature": 9}, {"best_of": 2}]
    for wrong in wrongs:
        with refused("INVALID_ARGUMENT"):
            client.infer("words", inputs(**wrong))
    with refused("INVALID_ARGUMENT"):
        client.infer("words", inputs(stream=True))
    with refused("INVALID_ARGUMENT"):
        client.infer("words", inputs("the river " * 500))


def check_a_caller_that_stops_its_stream_leaves_nothing_behind(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("words", inputs(stream=True, max_tokens=200))
    answers.get(timeout=60)
    client.stop_stream(cancel_requests=True)
    assert text(client.infer("words", inputs(max_tokens=4)))


def call(check: Any, address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        check(client)


if __name__ == "__main__":
    run(globals(), call)
