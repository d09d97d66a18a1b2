"""OpenAI's paths of models and embeddings, for models that answer an `embedding` of one text."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput, NotFound
from starlette.requests import Request

from headrace_inference.core.tensors import BYTES
from headrace_inference.transport.abilities import EMBEDDING
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.rest.beside import Beside
from headrace_inference.transport.rest.caller import Bodies, Caller
from headrace_inference.transport.rest.fields import named
from headrace_inference.transport.rest.told import Endpoint, Told
from headrace_inference.transport.rest.writing import write_json

_FLOAT: Final = np.dtype("<f4")


class Embeddings:
    """Answers them with a plane, in its event loop."""

    def __init__(self, plane: Plane, bodies: Bodies, beside: Beside) -> None:
        self._plane = plane
        self._bodies = bodies
        self._beside = beside
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
        self._plane.abilities.check(*named(asked))
        return Told(write_json(_model(asked)))

    async def _embeddings(self, request: Request, caller: Caller) -> Told:
        body = await self._bodies.read(request.receive, request.headers)
        asked, texts = await self._beside.do("embeddings", {}, body)
        name, version = named(asked["model"])
        feature, width = self._plane.abilities.embedding(name, version)
        if asked["dimensions"] not in {None, width}:
            told = f"expected {width}, which the embeddings of model {name!r} have"
            raise InvalidInput(f"dimensions: {told}, got {asked['dimensions']}")
        call = oip.ModelInferRequest(model_name=name, model_version=version)
        call.inputs.add(name=feature, datatype=BYTES.name, shape=[asked["count"]])
        call.raw_input_contents.append(texts)
        call.outputs.add(name=EMBEDDING)
        answer = oip.ModelInferResponse.FromString(
            await self._plane.call("ModelInfer", bytes(call.SerializeToString()), caller)
        )
        rows = np.frombuffer(answer.raw_output_contents[0], _FLOAT).reshape(asked["count"], width)
        tokens = await asyncio.to_thread(self._plane.abilities.tokens, name, version, texts, asked["count"])
        return Told(await asyncio.to_thread(_answer, asked["model"], rows, asked["encoding"], tokens))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "headrace"}


def _answer(model: str, rows: np.ndarray[Any, Any], encoding: str, tokens: int) -> bytes:
    values: list[Any] = rows.tolist()
    if encoding == "base64":
        values = [base64.b64encode(row.tobytes()).decode() for row in rows]
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return write_json({"object": "list", "data": data, "model": model, "usage": usage})
