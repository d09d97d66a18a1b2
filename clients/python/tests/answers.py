"""What the fake registry answers whatever it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from headrace import open_inference
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace.registry.v1 import registry_service_pb2_grpc as services


def digest(letter: str) -> str:
    """Return a digest of one letter."""
    return "sha256:" + letter * 64


class Answers(services.RegistryServiceServicer):
    """Answers that nobody chooses."""

    _seen: Callable[..., Any]
    forgotten: Sequence[messages.ForgottenKey] = ()
    """Tests give one a list of its own."""

    def CollectGarbage(self, request: Any, context: Any) -> messages.CollectGarbageResponse:  # noqa: N802
        """Tell of objects of each fate, and of a version that was let go."""
        answer = messages.CollectGarbageResponse(
            counts=[
                messages.ObjectCount(fate=fate, kind=kind, objects=3, size_bytes=2_500_000)
                for fate, kind in (
                    (messages.OBJECT_FATE_REMOVED, "parts of datasets"),
                    (messages.OBJECT_FATE_MARKED, "documents"),
                    (messages.OBJECT_FATE_KEPT, "versions"),
                )
            ],
            retired=[messages.RetiredVersion(pipeline="penguins", model="species", ordinal=4, version_id="sha256:4")],
        )
        return self._seen(request, context, answer)

    def ForgetKey(self, request: Any, context: Any) -> messages.ForgetKeyResponse:  # noqa: N802
        """Take the request."""
        return self._seen(request, context, messages.ForgetKeyResponse(request_id="request-7"))

    def ListForgottenKeys(self, request: Any, context: Any) -> messages.ListForgottenKeysResponse:  # noqa: N802
        """Tell what was forgotten."""
        return self._seen(request, context, messages.ListForgottenKeysResponse(keys=self.forgotten))

    def RecalibrateModel(self, request: Any, context: Any) -> messages.RecalibrateModelResponse:  # noqa: N802
        """Tell of a run."""
        return self._seen(request, context, messages.RecalibrateModelResponse(run_id="recalibrate-7"))


def word_by_word(words: list[Any], seen: list[Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return what answers a call of ModelStreamInfer with one word in each message, and tells of the end in one more.

    A status and its details in place of a word end it.
    """

    def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            seen.append(request)
            for word in [*words, ""]:
                if isinstance(word, tuple):
                    context.abort(*word)
                yield _message(request.model_name, word)

    return grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=open_inference.ModelInferRequest.FromString,
        response_serializer=open_inference.ModelStreamInferResponse.SerializeToString,
    )


def _message(model: str, word: str) -> Any:
    message = open_inference.ModelStreamInferResponse()
    answer = message.infer_response
    answer.model_name, answer.model_version = model, "2"
    answer.parameters["variant"].string_param = "q4"
    answer.parameters["triton_final_response"].bool_param = not word
    if not word:
        answer.parameters["prediction_id"].string_param = "prediction-1"
        return message
    text = word.encode()
    outputs = {"text_output": ("BYTES", len(text).to_bytes(4, "little") + text)}
    outputs |= {"num_output_tokens": ("UINT32", (1).to_bytes(4, "little"))}
    for name, (datatype, raw) in outputs.items():
        answer.outputs.add(name=name, datatype=datatype, shape=[1])
        answer.raw_output_contents.append(raw)
    return message
