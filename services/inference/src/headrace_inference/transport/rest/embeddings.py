"""OpenAI's paths of models and embeddings, for models that answer an `embedding` of one text."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import numpy as np
from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput, NotFound
from starlette.requests import Request

from headrace_inference.core.tensors import BYTES, encode_raw
from headrace_inference.transport.abilities import EMBEDDING
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.rest.caller import Bodies, Caller
from headrace_inference.transport.rest.fields import Fields, named
from headrace_inference.transport.rest.reading import read_json
from headrace_inference.transport.rest.told import Endpoint, Told
from headrace_inference.transport.rest.writing import write_json

_FLOAT: Final = np.dtype("<f4")


class Embeddings:
    """Answers them with a plane, in its event loop."""

    def __init__(self, plane: Plane, bodies: Bodies) -> None:
        self._plane = plane
        self._bodies = bodies
        self.endpoints: Mapping[str, Endpoint] = {
            "list_models": self._list,
            "show_model": self._show,
            "embeddings": self._embeddings,
        }
        """What answers, by the names of the table of paths."""

    async def _list(self, _request: Request, _caller: Caller) -> Told:
        return Told(write_json({"object": "list", "data": [_model(name) for name in self._plane.abilities.names()]}))

    async def _show(self, request: Request, _caller: Caller) -> Told:
        asked = request.path_params["model"]
        if named(asked)[0] not in (known := self._plane.abilities.names()):
            raise NotFound(f"model {asked!r}: expected one of {known}, which write texts or answer embeddings")
        return Told(write_json(_model(asked)))

    async def _embeddings(self, request: Request, caller: Caller) -> Told:
        asked = Fields(read_json(await self._bodies.read(request.receive, request.headers)))
        model, texts = asked.needed_text("model"), _texts(asked)
        encoding = asked.text("encoding_format") or "float"
        if encoding not in {"float", "base64"}:
            asked.refuse("encoding_format", "float or base64", encoding)
        dimensions = asked.whole("dimensions")
        asked.left_out("user")
        asked.end()
        name, version = named(model)
        feature, width = self._plane.abilities.embedding(name, version)
        if dimensions not in {None, width}:
            raise InvalidInput(
                f"dimensions: expected {width}, which the embeddings of model {name!r} have, got {dimensions}"
            )
        call = oip.ModelInferRequest(model_name=name, model_version=version)
        call.inputs.add(name=feature, datatype=BYTES.name, shape=[len(texts)])
        call.raw_input_contents.append(encode_raw(np.array(texts, object), BYTES))
        call.outputs.add(name=EMBEDDING)
        answer = oip.ModelInferResponse.FromString(
            await self._plane.call("ModelInfer", bytes(call.SerializeToString()), caller)
        )
        rows = np.frombuffer(answer.raw_output_contents[0], _FLOAT).reshape(len(texts), width)
        tokens = self._plane.abilities.tokens(name, version, texts)
        return Told(write_json(_answer(model, rows, encoding, tokens)), HTTPStatus.OK)


def _texts(asked: Fields) -> list[str]:
    given = asked.any("input")
    texts = [given] if type(given) is str else given
    if type(texts) is not list or not texts or not all(type(text) is str for text in texts):
        asked.refuse("input", "a text or a list of texts (tokens are this server's own)", given)
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"input: expected texts that are Unicode: {error.reason}") from error
    return list(texts)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "headrace"}


def _answer(model: str, rows: np.ndarray[Any, Any], encoding: str, tokens: int) -> dict[str, Any]:
    values: list[Any] = rows.tolist()
    if encoding == "base64":
        values = [base64.b64encode(row.tobytes()).decode() for row in rows]
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}
