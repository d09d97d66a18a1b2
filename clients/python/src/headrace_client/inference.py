"""The inference client: the Open Inference Protocol over gRPC."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from headrace import open_inference
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, PredictRecordsResponse

from headrace_client.addresses import find_addresses
from headrace_client.channels import ServiceClient, trace_metadata
from headrace_client.conversing import ENDS_WITH_ERRORS, Part, Turn, parts_of, request_of
from headrace_client.errors import AnswerInvalid, InputInvalid, NotReady, Rejected
from headrace_client.tensors import Array, TensorSpec, arrays_from_rows, from_raw, numbers_of, to_raw
from headrace_client.tls import Tls

NOT_READY_PAUSE_S = 0.2
DATATYPES = {
    "b1": "BOOL",
    **{f"{kind}{size}": f"{word}{size * 8}" for kind, word in (("u", "UINT"), ("i", "INT")) for size in (1, 2, 4, 8)},
    **{f"f{size}": f"FP{size * 8}" for size in (2, 4, 8)},
}
"""Data type by numpy kind and item size in bytes."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a served model is: its name, the versions served, its platform, its inputs and outputs."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class InferenceResult:
    """One answer: its output arrays, the version that answered and the answer's parameters (`cached`, `variant`)."""

    model: str
    version: str
    prediction_id: str
    outputs: Mapping[str, Array]
    parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    @property
    def cached(self) -> bool:
        """Whether the answer came from the cache."""
        return self.parameters.get("cached") is True

    @property
    def variant(self) -> str:
        """Name of the variant that answered; empty when the server does not say."""
        return str(self.parameters.get("variant", ""))


class InferenceClient(ServiceClient):
    """Calls inference; a context manager. Not connected before the first call.

    Every method raises Unreachable when nobody answers, TimedOut after `timeout_s`, and a Rejected when the server
    refuses, for example NotFound for an unknown model. While a model loads, calls are repeated for `patience_s`.
    """

    def __init__(
        self, address: str | None = None, *, timeout_s: float = 30.0, patience_s: float = 10.0, tls: Tls | None = None
    ) -> None:
        super().__init__("inference", address or find_addresses().inference, timeout_s, tls)
        self._patience_s = patience_s
        self._methods: dict[str, Any] = {
            name: self._channel.unary_unary(
                f"/{open_inference.SERVICE}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=answer.FromString,
            )
            for name, (request, answer) in open_inference.METHODS.items()
        }
        self._methods["PredictRecords"] = self._channel.unary_unary(
            "/headrace.inference.v1.RecordService/PredictRecords",
            request_serializer=PredictRecordsRequest.SerializeToString,
            response_deserializer=PredictRecordsResponse.FromString,
        )
        self._stream = self._channel.stream_stream(
            f"/{open_inference.SERVICE}/ModelStreamInfer",
            request_serializer=open_inference.ModelInferRequest.SerializeToString,
            response_deserializer=open_inference.ModelStreamInferResponse.FromString,
        )

    def ready(self) -> bool:
        """Return whether the server takes requests."""
        return bool(self._call("ServerReady", open_inference.ServerReadyRequest()).ready)

    def model_ready(self, model: str, version: str = "") -> bool:
        """Return whether a model, or one version of it, takes requests."""
        return bool(self._call("ModelReady", open_inference.ModelReadyRequest(name=model, version=version)).ready)

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Return what a served model takes and gives."""
        answer = self._call("ModelMetadata", open_inference.ModelMetadataRequest(name=model, version=version))
        return ModelMetadata(
            name=answer.name,
            versions=tuple(answer.versions),
            platform=answer.platform,
            inputs=tuple(_tensor_spec(tensor) for tensor in answer.inputs),
            outputs=tuple(_tensor_spec(tensor) for tensor in answer.outputs),
        )

    def inputs(self, model: str, version: str = "") -> tuple[TensorSpec, ...]:
        """Return what a served model takes, and what of that may be missing when the server says so."""
        inputs, config = self.metadata(model, version).inputs, self._config(model, version)
        if config is None:
            return inputs
        optional = {tensor.name: bool(tensor.optional) for tensor in config.input}
        return tuple(replace(tensor, optional=optional.get(tensor.name)) for tensor in inputs)

    def keeps_answers(self, model: str, version: str = "") -> bool | None:
        """Return whether the server that is asked keeps hot predictions of a model; None where it does not say.

        With `serve.cache: auto` each decides for itself.
        """
        config = self._config(model, version)
        return None if config is None else bool(config.response_cache.enable)

    def _config(self, model: str, version: str) -> Any:
        """Return a model's configuration; None where the server has not this extension, which is Triton's."""
        try:
            return self._call("ModelConfig", open_inference.ModelConfigRequest(name=model, version=version)).config
        except Rejected as error:
            if error.code != grpc.StatusCode.UNIMPLEMENTED.name:
                raise
            return None

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        keys: Sequence[int | str] = (),
    ) -> InferenceResult:
        """Send arrays (first dimension: rows) and return the answer; data types follow from the arrays' dtypes.

        `outputs` names those that are wanted, such as embedding; none for all. `keys` are those of the rows, by which
        labels find the answers later, where the pipeline measures these (serve.quality).
        Arrays of objects are texts; where they hold numbers and None they are FP64 with NaN. NaN is a missing number;
        None, NaN and "" are a missing text.
        """
        if isinstance(outputs, str):  # each of its letters would be a name
            raise InputInvalid(f"outputs: expected a list of names, got '{outputs}'")
        request = _request(model, inputs, version)
        for name in outputs:
            request.outputs.add(name=name)
        if keys:
            request.parameters["key"].string_param = str(keys[0]) if len(keys) == 1 else json.dumps(list(keys))
        return _result(self._call("ModelInfer", request))

    def records(self, request: PredictRecordsRequest) -> PredictRecordsResponse:
        """Send records as producers send them, and return what the server answers to each: see `predict_records`."""
        answer: PredictRecordsResponse = self._call("PredictRecords", request)
        return answer

    def explain(self, model: str, inputs: Mapping[str, Array], *, version: str = "") -> InferenceResult:
        """Send one row, or the row and a reference, and return the answer to the row with what each value adds to it.

        Beside its outputs the answer has `explained`, names of the row's values; and for each output of numbers with a
        fraction NAME/occlusion, shape [values, *shape of one answer], NAME/reference and NAME/remainder. Without a
        reference numbers are taken away as missing, texts as ones that no row has had.
        """
        request = _request(model, inputs, version)
        request.parameters["explain"].string_param = "occlusion"
        return _result(self._call("ModelInfer", request))

    def predict(
        self, model: str, rows: Sequence[Mapping[str, Any]], *, metadata: ModelMetadata | None = None
    ) -> InferenceResult:
        """Send rows of plain JSON values as one call; raise RowsInvalid when they do not fit the model's inputs."""
        if not rows:
            raise InputInvalid("there is no row to predict")
        inputs = metadata.inputs if metadata else self.inputs(model)
        return self.infer(model, arrays_from_rows(rows, inputs))

    def converse(
        self, model: str, turns: Sequence[Turn], *, version: str = "", timeout_s: float | None = None, **sampling: Any
    ) -> Generator[Part, None, None]:
        """Yield the parts of a model's next turn in a conversation, as it writes them; closing it ends the answer.

        `sampling` are parameters by vLLM's names, such as `max_tokens`, `temperature`, `stop` and `seed`; greedy
        without any. `timeout_s` is for the whole answer. What ends without an error is whole.
        """
        request = request_of(model, turns, version, sampling)
        give_up = time.monotonic() + self._patience_s
        while True:
            parts = self._parts(request, self._timeout_s if timeout_s is None else timeout_s)
            try:
                first = next(parts)
            except NotReady:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(NOT_READY_PAUSE_S)
                continue
            yield first
            yield from parts
            return

    def _parts(self, request: Any, timeout_s: float) -> Generator[Part, None, None]:
        metadata = (ENDS_WITH_ERRORS, *trace_metadata())
        return parts_of(self._streamed(self._stream(iter([request]), timeout=timeout_s, metadata=metadata)))

    def _call(self, method: str, request: Any) -> Any:
        give_up = time.monotonic() + self._patience_s
        while True:
            try:
                with self._translated():
                    return self._methods[method](request, timeout=self._timeout_s, metadata=trace_metadata())
            except NotReady:
                if time.monotonic() >= give_up:
                    raise
            time.sleep(NOT_READY_PAUSE_S)


def _request(model: str, inputs: Mapping[str, Array], version: str) -> Any:
    request = open_inference.ModelInferRequest(model_name=model, model_version=version)
    for name, given in inputs.items():
        array = numbers_of(given)
        datatype = _datatype(name, array)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(to_raw(array, datatype))
    return request


def _tensor_spec(tensor: Any) -> TensorSpec:
    labels, steps = (_names(tensor, parameter) for parameter in ("labels", "steps"))
    return TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape), labels=labels, steps=steps)


def _names(tensor: Any, parameter: str) -> tuple[str, ...]:
    """Return what a server tells of the places of a tensor; nothing of what is no list of texts."""
    told = tensor.parameters[parameter].string_param if parameter in tensor.parameters else "[]"
    try:
        labels = json.loads(told)
    except json.JSONDecodeError:
        return ()
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def _datatype(name: str, array: Array) -> str:
    if array.dtype.kind in "OSU":
        return "BYTES"
    try:
        return DATATYPES[f"{array.dtype.kind}{array.dtype.itemsize}"]
    except KeyError:
        raise InputInvalid(f"input '{name}': an array of {array.dtype} has no data type in the protocol") from None


def _result(answer: Any) -> InferenceResult:
    return InferenceResult(
        model=answer.model_name,
        version=answer.model_version,
        prediction_id=str(_parameters(answer).get("prediction_id", answer.id)),
        outputs=_outputs(answer),
        parameters=_parameters(answer),
    )


def _parameters(answer: Any) -> dict[str, bool | int | float | str]:
    return {
        name: getattr(parameter, choice)
        for name, parameter in answer.parameters.items()
        if (choice := parameter.WhichOneof("parameter_choice"))
    }


def _outputs(answer: Any) -> dict[str, Array]:
    raw = answer.raw_output_contents
    if raw and len(raw) != len(answer.outputs):
        raise AnswerInvalid(f"inference answered {len(answer.outputs)} outputs with {len(raw)} raw contents")
    if raw:
        return {
            output.name: from_raw(contents, output.datatype, output.shape)
            for output, contents in zip(answer.outputs, raw, strict=True)
        }
    return {output.name: _typed_contents(output) for output in answer.outputs}


def _typed_contents(output: Any) -> Array:
    filled = output.contents.ListFields()
    values = list(filled[0][1]) if filled else []
    if output.datatype == "BYTES":
        return from_raw(to_raw(np.array(values, dtype=object), "BYTES"), "BYTES", output.shape)
    return from_raw(to_raw(np.array(values), output.datatype), output.datatype, output.shape)
