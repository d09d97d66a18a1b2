"""What goes over REST, as JSON Schema (2020-12): the schemas of the OpenAPI page, by name."""

from __future__ import annotations

from typing import Any, Final

from headrace_inference.core.tensors import DATATYPES

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_WHOLE: Final[Schema] = {"type": "integer"}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_ANY: Final[Schema] = {"type": "object"}
_SHAPE: Final[Schema] = {"type": "array", "items": _WHOLE}
_TYPE: Final[Schema] = {"enum": list(DATATYPES)}
_PARAMETERS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["boolean", "integer", "string", "number"]},
}


def _object(required: str = "", /, **fields: Schema) -> Schema:
    """Return an object of these fields; `required` names those that are always there."""
    found: Schema = {"type": "object", "properties": fields}
    return {**found, "required": required.split()} if required else found


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _constant(value: str) -> Schema:
    return {"const": value}


_DATA: Final[Schema] = {"type": "array", "description": "Values in row-major order, flat or nested; null is missing."}
_USAGE: Final = _object(
    "prompt_tokens total_tokens", prompt_tokens=_WHOLE, completion_tokens=_WHOLE, total_tokens=_WHOLE
)
_TOKEN: Final = _object(
    "token logprob", token=_TEXT, logprob=_NUMBER, bytes={"type": ["array", "null"]}, top_logprobs={"type": "array"}
)
_SAMPLING: Final[dict[str, Schema]] = {
    "model": {**_TEXT, "description": "A model's name, or NAME@VERSION with an alias, an ordinal or a digest."},
    "max_tokens": {**_WHOLE, "minimum": 1},
    "temperature": {**_NUMBER, "minimum": 0, "maximum": 2, "default": 0},
    "top_p": {**_NUMBER, "maximum": 1},
    "n": {"const": 1},
    "seed": _WHOLE,
    "stop": {"anyOf": [_TEXT, _list(_TEXT)]},
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "stream": _FLAG,
    "stream_options": _object(include_usage=_FLAG),
    "user": _TEXT,
    "priority": {**_WHOLE, "minimum": 0, "maximum": 5, "description": "1 for the most urgent; 0 is usual, as 3 is."},
}
_ANSWERED: Final[dict[str, Schema]] = {
    "id": _TEXT,
    "created": _WHOLE,
    "model": _TEXT,
    "usage": _USAGE,
    "system_fingerprint": {**_TEXT, "description": "Names the version and its variant."},
}
_FINISH: Final[Schema] = {"enum": ["stop", "length", None]}

SCHEMAS: Final[dict[str, Schema]] = {
    "Problem": _object(
        "type title status detail error", type=_TEXT, title=_TEXT, status=_WHOLE, detail=_TEXT, error=_TEXT
    ),
    "OpenAiError": _object(
        "error",
        error=_object(
            "message type",
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
    "ServerMetadata": _object("name version extensions", name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "Live": _object("live", live=_FLAG),
    "Ready": _object("ready", ready=_FLAG),
    "ModelReady": _object("name ready", name=_TEXT, ready=_FLAG),
    "IndexCall": _object(ready=_FLAG),
    "Index": _list(_object("name version state", name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
    "Statistics": _object("model_stats", model_stats=_list(_ANY)),
    "Config": _object("name", name=_TEXT, input=_list(_ANY), output=_list(_ANY), max_batch_size=_WHOLE),
    "Tensor": _object("name datatype shape", name=_TEXT, datatype=_TYPE, shape=_SHAPE),
    "ModelMetadata": _object(
        "name versions inputs outputs",
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(_ref("Tensor")),
        outputs=_list(_ref("Tensor")),
    ),
    "InferCall": _object(
        "inputs",
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs=_list(
            _object("name datatype shape", name=_TEXT, datatype=_TYPE, shape=_SHAPE, parameters=_PARAMETERS, data=_DATA)
        ),
        outputs=_list(_object("name", name=_TEXT, parameters=_PARAMETERS)),
    ),
    "InferAnswer": _object(
        "model_name model_version outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETERS,
        outputs=_list(
            _object("name datatype shape", name=_TEXT, datatype=_TYPE, shape=_SHAPE, parameters=_PARAMETERS, data=_DATA)
        ),
    ),
    "Records": {"description": "A record of the pipeline's stream, or a list of them; or lines, or any bytes."},
    "RecordAnswers": _object(
        "model_name model_version parameters answers",
        model_name=_TEXT,
        model_version=_TEXT,
        parameters=_ANY,
        answers=_list(
            _object(
                "record line",
                record=_WHOLE,
                line=_WHOLE,
                row=_WHOLE,
                outputs=_ANY,
                rejection=_object("rule field reason", rule=_TEXT, field=_TEXT, reason=_TEXT),
            )
        ),
    ),
    "OpenAiModel": _object(
        "id object created owned_by", id=_TEXT, object=_constant("model"), created=_WHOLE, owned_by=_TEXT
    ),
    "OpenAiModels": _object("object data", object=_constant("list"), data=_list(_ref("OpenAiModel"))),
    "EmbeddingsCall": _object(
        "model input",
        model=_SAMPLING["model"],
        input={"anyOf": [_TEXT, _list(_TEXT)]},
        encoding_format={"enum": ["float", "base64"], "default": "float"},
        dimensions=_WHOLE,
        user=_TEXT,
    ),
    "Embeddings": _object(
        "object data model usage",
        object=_constant("list"),
        model=_TEXT,
        usage=_USAGE,
        data=_list(
            _object(
                "object index embedding",
                object=_constant("embedding"),
                index=_WHOLE,
                embedding={"anyOf": [_list(_NUMBER), {**_TEXT, "contentEncoding": "base64"}]},
            )
        ),
    ),
    "ChatCall": _object(
        "model messages",
        messages=_list(
            _object(
                "role content",
                role={"enum": ["system", "developer", "user", "assistant"]},
                content={"anyOf": [_TEXT, _list(_object("type text", type=_constant("text"), text=_TEXT))]},
                name=_TEXT,
            )
        ),
        max_completion_tokens={**_WHOLE, "minimum": 1},
        logprobs=_FLAG,
        top_logprobs={"const": 0},
        response_format=_object("type", type={"enum": ["text", "json_object", "json_schema"]}, json_schema=_ANY),
        **_SAMPLING,
    ),
    "Chat": _object(
        "id object created model choices",
        object={"enum": ["chat.completion", "chat.completion.chunk"]},
        choices=_list(
            _object(
                "index finish_reason",
                index=_WHOLE,
                message=_object("role content", role=_constant("assistant"), content=_TEXT),
                delta=_object(role=_TEXT, content=_TEXT),
                finish_reason=_FINISH,
                logprobs={"anyOf": [_object("content", content=_list(_TOKEN)), {"type": "null"}]},
            )
        ),
        **_ANSWERED,
    ),
    "CompletionCall": _object(
        "model prompt", prompt=_TEXT, logprobs={"enum": [0, None]}, echo={"const": False}, **_SAMPLING
    ),
    "Completion": _object(
        "id object created model choices",
        object=_constant("text_completion"),
        choices=_list(
            _object(
                "index text finish_reason",
                index=_WHOLE,
                text=_TEXT,
                finish_reason=_FINISH,
                logprobs={"type": ["object", "null"]},
            )
        ),
        **_ANSWERED,
    ),
    "OpenApi": _ANY,
}
