"""tritonclient's asyncio gRPC client, as its users call it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from checks import refused, run

ROWS = np.linspace(0, 16, 192, dtype=np.float32).reshape(3, 8, 8)


def pixels() -> list[triton.InferInput]:
    found = triton.InferInput("pixels", ROWS.shape, "FP32")
    found.set_data_from_numpy(ROWS)
    return [found]


async def check_what_the_server_and_a_model_are(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("digits")
    assert "statistics" in (await client.get_server_metadata()).extensions
    assert [each.name for each in (await client.get_model_metadata("digits")).inputs] == ["pixels"]
    assert [each.name for each in (await client.get_model_config("digits")).config.input] == ["pixels"]
    assert (await client.get_inference_statistics("digits")).model_stats
    assert (await client.get_model_repository_index()).models


async def check_calls_at_the_same_time(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("probabilities", class_count=1)]
    calls = [client.infer("digits", pixels(), outputs=outputs, request_id=str(number)) for number in range(50)]
    results = await asyncio.gather(*calls)
    assert [result.get_response().id for result in results] == [str(number) for number in range(50)]
    for result in results:
        best = [int(text.decode().split(":")[1]) for text in result.as_numpy("probabilities").ravel()]
        assert result.as_numpy("label").tolist() == best


async def check_a_stream_of_calls(client: triton.InferenceServerClient) -> None:
    async def calls() -> object:
        for number in range(50):
            yield {"model_name": "digits", "inputs": pixels(), "request_id": str(number)}

    seen = []
    async for result, error in client.stream_infer(calls()):
        assert error is None
        seen.append(result.get_response().id)
    assert seen == [str(number) for number in range(50)]


async def check_errors(client: triton.InferenceServerClient) -> None:
    with refused("NOT_FOUND", "model 'nope' is not released"):
        await client.infer("nope", pixels())
    with refused("INVALID_ARGUMENT", "missing ['pixels']"):
        await client.infer("digits", [])
    with refused("UNIMPLEMENTED"):
        await client.load_model("digits")


async def _with_client(check: Any, address: str) -> None:
    async with triton.InferenceServerClient(address) as client:
        await check(client)


if __name__ == "__main__":
    run(globals(), lambda check, address: asyncio.run(_with_client(check, address)))
