"""KServe's REST client, as its users call it: the address of the REST port."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
from checks import run
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

ROWS = np.linspace(0, 16, 192, dtype=np.float32).reshape(3, 8, 8)


def pixels(rows: np.ndarray, *, binary: bool) -> InferRequest:
    tensor = InferInput("pixels", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(model_name="digits", infer_inputs=[tensor])


async def check_health(client: InferenceRESTClient, url: str) -> None:
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "digits")
    assert not await client.is_model_ready(url, "nope")


async def check_json_and_binary(client: InferenceRESTClient, url: str) -> None:
    found = []
    for binary in (True, False):
        answer = await client.infer(url, pixels(ROWS, binary=binary), model_name="digits")
        found.append({output.name: output.as_numpy().tolist() for output in answer.outputs})
        assert found[-1]["label"] == np.argmax(found[-1]["probabilities"], axis=1).tolist()
    assert found[0] == found[1]


async def check_errors(client: InferenceRESTClient, url: str) -> None:
    for status, model, rows in ((404, "nope", ROWS), (400, "digits", ROWS[:, :4])):
        request = pixels(rows, binary=True)
        request.model_name = model
        refused: httpx.HTTPStatusError | None = None
        try:
            await client.infer(url, request, model_name=model)
        except httpx.HTTPStatusError as error:
            refused = error
        assert refused is not None, f"expected {status}"
        assert refused.response.status_code == status
        assert refused.response.json()["error"]


def call(check: Any, address: str) -> None:
    async def checked() -> None:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        try:
            await check(client, f"http://{address}")
        finally:
            await client.close()

    asyncio.run(checked())


if __name__ == "__main__":
    run(globals(), call)
