"""Open Inference Protocol messages and events, to and from what the core works with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from headrace import open_inference as oip
from headrace.events.v1 import artifact_pb2, model_pb2, prediction_pb2
from headrace_engines.properties import DEPENDENT
from headrace_runtime.errors import InvalidInput, Unprocessable
from headrace_runtime.object_store import is_digest
from headrace_runtime.priorities import FIRST, LAST, NORMAL

from headrace_inference.core import occlusion
from headrace_inference.core.classification import top_classes
from headrace_inference.core.releases import CachePolicy, CheaperVariant, Graph, Release, Upstream
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.signature import Call, Signature, TensorSpec
from headrace_inference.core.tensors import BYTES, DATATYPES, InputTensor, OutputTensor, decode_output, encode_raw
from headrace_inference.transport.rollout_messages import rollout_of

_UNSUPPORTED = {
    "shared_memory_region": "shared memory is not supported, send the contents",
}
_LEADING = 1024
"""Bytes of a call in which its names and parameters stand, before its tensors."""
TIMEOUT = "timeout"
PRIORITY = "priority"
EXPLAIN = "explain"
CHAT = "chat"
"""The parameter of a call that says whether its prompt is a conversation, for the model's chat template."""
FINAL = "triton_final_response"
"""The parameter of an answer that says whether it is the last of its call."""
CLASSIFICATION = "classification"
"""The parameter of an output by which a caller asks for its highest scores only."""
MOST_LABELS = 1024 * 1024
"""Letters of an output's labels that are told with a model's metadata: clients take 4 MiB in an answer."""

_CACHE_POLICIES = {
    model_pb2.CACHE_POLICY_REDIS: CachePolicy.REDIS,
    model_pb2.CACHE_POLICY_AUTO: CachePolicy.AUTO,
    model_pb2.CACHE_POLICY_OFF: CachePolicy.OFF,
}


def parse(method: str, request: bytes) -> Any:
    """Return a method's request. Raises InvalidInput when the bytes are none."""
    try:
        return oip.METHODS[method][0].FromString(request)
    except DecodeError as error:
        raise InvalidInput(f"expected an inference.{method}Request: {error}") from error


def to_call(request: Any) -> Call:
    """Return a ModelInferRequest as a call. Raises InvalidInput for what this server cannot do."""
    return Call(
        request.model_name,
        request.model_version,
        request.id,
        [_to_input(tensor) for tensor in request.inputs],
        list(request.raw_input_contents),  # each access copies the bytes, so this is the only one
        [_to_output(tensor) for tensor in request.outputs],
        _classes(request.outputs),
        _timeout_s(request.parameters) if request.parameters else None,
        _explain(request.parameters) if request.parameters else False,
        _chat(request.parameters) if request.parameters else False,
        _priority(request.parameters) if request.parameters else NORMAL,
    )


def most_urgent(request: bytes) -> int:
    """Return the most urgent priority that a serialised ModelInferRequest may have, without reading it."""
    return FIRST if PRIORITY.encode() in request[:_LEADING] else NORMAL


def _timeout_s(parameters: Any) -> float | None:
    """Return the parameter `timeout`, microseconds as in Triton, in seconds; None for 0 and without it.

    Raises InvalidInput for a number that is none.
    """
    return _number(parameters, TIMEOUT) / 1e6 or None


def _priority(parameters: Any) -> int:
    """Return the parameter `priority`, as in Triton 1 for the most urgent; what is usual for 0 and without it.

    Raises InvalidInput for one that there is not.
    """
    if (priority := _number(parameters, PRIORITY)) > LAST:
        raise InvalidInput(f"parameter {PRIORITY!r}: expected {FIRST} (first) to {LAST} (last), or 0, got {priority}")
    return priority or NORMAL


def _explain(parameters: Any) -> bool:
    """Return whether the parameter `explain` asks for an explanation. Raises InvalidInput for an unknown one."""
    if EXPLAIN not in parameters:
        return False
    if (got := parameters[EXPLAIN].string_param) != occlusion.NAME:
        raise InvalidInput(f"parameter {EXPLAIN!r}: expected the text {occlusion.NAME!r}, got {got!r}")
    return True


def _chat(parameters: Any) -> bool:
    """Return whether the parameter `chat` says that the prompt is a conversation. Raises InvalidInput."""
    if CHAT not in parameters:
        return False
    if (got := parameters[CHAT].WhichOneof("parameter_choice")) != "bool_param":
        raise InvalidInput(f"parameter {CHAT!r}: expected bool_param, got {got or 'nothing'}")
    return bool(parameters[CHAT].bool_param)


def _number(parameters: Any, name: str) -> int:
    """Return a parameter, 0 without it. Raises InvalidInput for one that is no number or is negative."""
    if name not in parameters:
        return 0
    choice = parameters[name].WhichOneof("parameter_choice")
    if choice not in {"int64_param", "uint64_param"} or getattr(parameters[name], choice) < 0:
        got = choice or "nothing"
        raise InvalidInput(f"parameter {name!r}: expected a number from 0 as int64 or uint64, got {got}")
    return int(getattr(parameters[name], choice))


def _to_input(tensor: Any) -> InputTensor:
    if tensor.parameters:
        _refuse_unsupported(tensor)
    typed: Sequence[tuple[str, Sequence[Any]]] = ()
    if tensor.HasField("contents"):
        typed = [(field.name, values) for field, values in tensor.contents.ListFields()]
    return InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), typed)


def _to_output(tensor: Any) -> str:
    if tensor.parameters:
        _refuse_unsupported(tensor)
    return str(tensor.name)


def _classes(outputs: Iterable[Any]) -> dict[str, int]:
    """Return how many classes are wanted of each output that is asked for as a classification."""
    wanted: dict[str, int] = {}
    for tensor in outputs:
        if tensor.parameters and (parameter := tensor.parameters.get(CLASSIFICATION)) is not None:
            if parameter.WhichOneof("parameter_choice") != "int64_param" or parameter.int64_param < 0:
                raise InvalidInput(f"output {tensor.name!r}: expected a number of classes as int64 in classification")
            if parameter.int64_param:
                wanted[tensor.name] = parameter.int64_param
    return wanted


def _refuse_unsupported(tensor: Any) -> None:
    for name, reason in _UNSUPPORTED.items():
        if name in tensor.parameters:
            raise InvalidInput(f"tensor {tensor.name!r}: {reason}")


# An answer is put together from serialised parts: protobuf merges messages that follow one another, field by field. The
# part that names the version is made once, the outputs travel from and to the cache as they are, and only the rest is
# built for each call.


def answer_prefix(release: Release) -> bytes:
    """Return the part of an answer that is the same for every call of a release."""
    answer = oip.ModelInferResponse(model_name=release.model, model_version=str(release.ordinal))
    answer.parameters["version_id"].string_param = release.version_id
    answer.parameters["variant"].string_param = release.variant
    answer.parameters["dataset_id"].string_param = release.dataset_id
    answer.parameters["run_id"].string_param = release.run_id
    return bytes(answer.SerializeToString())


def answer_suffix(call_id: str, prediction_id: str, *, cached: bool) -> bytes:
    """Return the part of an answer that belongs to one call."""
    answer = oip.ModelInferResponse(id=call_id)
    answer.parameters["prediction_id"].string_param = prediction_id
    answer.parameters["cached"].bool_param = cached
    return bytes(answer.SerializeToString())


def outputs_part(outputs: Iterable[OutputTensor]) -> bytes:
    """Return the part of an answer that holds the outputs, as raw contents."""
    answer = oip.ModelInferResponse()
    for output in outputs:
        answer.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        answer.raw_output_contents.append(output.raw)
    return bytes(answer.SerializeToString())


def final_part(*, final: bool) -> bytes:
    """Return the part of an answer that says whether it is the last of its call."""
    answer = oip.ModelInferResponse()
    answer.parameters[FINAL].bool_param = final
    return bytes(answer.SerializeToString())


def piece_suffix(call_id: str) -> bytes:
    """Return the part that belongs to one call, of a piece of its answer."""
    return bytes(oip.ModelInferResponse(id=call_id).SerializeToString())


def texts_of(part: bytes) -> dict[str, str]:
    """Return the first text of each output of texts in an outputs part, by the output's name."""
    answer = oip.ModelInferResponse.FromString(part)
    return {
        output.name: decode_output(OutputTensor(output.name, output.datatype, tuple(output.shape), raw))[0].decode()
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        if output.datatype == BYTES.name
    }


def numbers_of(part: bytes) -> dict[str, int]:
    """Return the first number of each output of whole numbers in an outputs part, by the output's name."""
    answer = oip.ModelInferResponse.FromString(part)
    return {
        output.name: int(np.frombuffer(raw, DATATYPES[output.datatype].dtype)[0])
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        if output.datatype != BYTES.name and DATATYPES[output.datatype].dtype.kind in "iu"
    }


def as_classified(part: bytes, classes: Mapping[str, int], signature: Signature) -> bytes:
    """Return an outputs part with the highest scores instead of the outputs that `classes` names.

    Raises InvalidInput for an output of strings.
    """
    answer = oip.ModelInferResponse.FromString(part)
    for place, output in enumerate(answer.outputs):
        if output.name not in classes:
            continue
        if output.datatype == BYTES.name:
            raise InvalidInput(f"output {output.name!r}: expected numbers to classify, {BYTES.name} are none")
        dtype = DATATYPES[output.datatype].dtype
        scores = np.frombuffer(answer.raw_output_contents[place], dtype).reshape(tuple(output.shape))
        labels = signature.output(output.name).labels
        found = top_classes(scores, classes[output.name], batched=signature.batched, labels=labels)
        output.datatype = BYTES.name
        output.shape[:] = found.shape
        answer.raw_output_contents[place] = encode_raw(found, BYTES)
    return bytes(answer.SerializeToString())


def as_typed(part: bytes) -> bytes:
    """Return an outputs part with typed contents; as it is when a data type has none."""
    answer = oip.ModelInferResponse.FromString(part)
    if any(DATATYPES[output.datatype].typed_field is None for output in answer.outputs):
        return part
    for output, raw in zip(answer.outputs, list(answer.raw_output_contents), strict=True):
        values = decode_output(OutputTensor(output.name, output.datatype, tuple(output.shape), raw))
        getattr(output.contents, str(DATATYPES[output.datatype].typed_field)).extend(values)
    answer.ClearField("raw_output_contents")
    return bytes(answer.SerializeToString())


def platform_of(version: LoadedVersion) -> tuple[str, str]:
    """Return platform and backend of a version, as clients of Triton know them."""
    return ("onnxruntime_onnx", "onnxruntime") if version.language is None else ("openvino_gguf", "openvino")


def to_metadata(asked: LoadedVersion, versions: Iterable[LoadedVersion]) -> Any:
    """Return a ModelMetadataResponse: the signature of the version asked for, and the ordinals of all that answer."""
    answer = oip.ModelMetadataResponse(name=asked.release.model, platform=platform_of(asked)[0])
    answer.versions.extend(str(ordinal) for ordinal in sorted({version.release.ordinal for version in versions}))
    signature = asked.model.signature
    for field, specs in ((answer.inputs, signature.inputs), (answer.outputs, signature.outputs)):
        _add_specs(field, specs)
    return answer


def _add_specs(field: Any, specs: Iterable[TensorSpec]) -> None:
    for spec in specs:
        tensor = field.add(name=spec.name, datatype=spec.datatype.name, shape=spec.sizes)
        for name, names in (("labels", spec.labels), ("steps", spec.steps)):
            if names and len(told := json.dumps(names, ensure_ascii=False)) <= MOST_LABELS:
                tensor.parameters[name].string_param = told
        if spec.depends:
            tensor.parameters["rows"].string_param = DEPENDENT


def to_release(message: model_pb2.ModelReleased, cpu_class: str) -> Release:
    """Return an event as a release on processors of a class. Raises Unprocessable when it lacks what serving needs.

    What was not measured on the class is not served there but for fp32: kernels differ, and so do their answers. A
    release of before there were classes says one graph for all.
    """
    first, *cheaper = _variants_on(cpu_class, message)
    _require_whole(message, first, cheaper)
    return Release(
        message.model,
        message.alias,
        message.epoch,
        message.version_id,
        message.ordinal,
        first.variant,
        _graph(first.graph),
        message.dataset_id,
        message.run_id,
        _CACHE_POLICIES[message.cache],
        message.cache_ttl_s,
        tuple(CheaperVariant(each.variant, _graph(each.graph)) for each in cheaper) if message.degrade else (),
        _upstream(message),
        message.withholds,
        message.records,
        *rollout_of(message),
    )


def _require_whole(
    message: model_pb2.ModelReleased, first: model_pb2.ServedVariant, cheaper: Sequence[model_pb2.ServedVariant]
) -> None:
    """Raise Unprocessable when a release lacks what serving needs."""
    required = {
        "model": message.model,
        "alias": message.alias,
        "epoch": message.epoch,
        "version_id": message.version_id,
        "ordinal": message.ordinal,
        "variant": first.variant,
        "graph.digest": first.graph.digest,
    }
    if empty := [name for name, value in required.items() if not value]:
        raise Unprocessable(f"ModelReleased of {message.model!r}: expected {', '.join(empty)}, got nothing")
    for digest in (each.graph.digest for each in (first, *cheaper)):
        if not is_digest(digest):
            raise Unprocessable(f"ModelReleased of {message.model!r}: expected a SHA-256, got {digest!r}")
    if message.cache not in _CACHE_POLICIES:
        raise Unprocessable(f"ModelReleased of {message.model!r}: expected a cache policy, got {message.cache}")


def _upstream(message: model_pb2.ModelReleased) -> Upstream | None:
    if not message.HasField("upstream"):
        return None
    told = message.upstream
    if not told.urls or not told.model:
        raise Unprocessable(f"ModelReleased of {message.model!r}: expected servers and the model's name, got {told}")
    return Upstream(tuple(told.urls), told.model, told.key)


def _variants_on(cpu_class: str, message: model_pb2.ModelReleased) -> list[model_pb2.ServedVariant]:
    """Return what a release serves on a class of processors, the one to serve first."""
    # What another server computes does not depend on this processor.
    if not message.classes or message.HasField("upstream"):
        return [model_pb2.ServedVariant(variant=message.variant, graph=message.graph)]
    own = next((each for each in message.classes if each.cpu_class == cpu_class and each.variants), None)
    if own is None and not message.HasField("unmeasured"):
        measured = ", ".join(each.cpu_class for each in message.classes)
        told = f"fp32 failed its gates, and the others were measured on {measured}"
        raise Unprocessable(f"ModelReleased of {message.model!r}: nothing to be served on {cpu_class}: {told}")
    return [message.unmeasured] if own is None else list(own.variants)


def _graph(artifact: artifact_pb2.Artifact) -> Graph:
    return Graph(artifact.uri, artifact.digest, artifact.size_bytes, artifact.beside_bytes)


def to_served(served: Iterable[Served]) -> prediction_pb2.PredictionsServed:
    """Return the event of some answered calls."""
    return prediction_pb2.PredictionsServed(predictions=map(_to_prediction, served))


def _to_prediction(served: Served) -> prediction_pb2.PredictionServed:
    release = served.release
    large = served.request_digest or served.answer_digest
    return prediction_pb2.PredictionServed(
        prediction_id=served.prediction_id,
        model=release.model,
        version_id=release.version_id,
        variant=release.variant,
        rows=served.rows,
        cached=served.cached,
        duration_us=round(served.duration_s * 1e6),
        response=served.answer,
        request=served.request,
        traceparent=served.traceparent,
        release=prediction_pb2.AnsweredRelease(alias=release.alias, epoch=release.epoch, tried_version_id=served.tried),
        large=prediction_pb2.LargeParts(request_digest=served.request_digest, response_digest=served.answer_digest)
        if large
        else None,
        keys=served.keys,
        places=served.places,
    )
