from __future__ import annotations

import asyncio

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from headrace_runtime.rpc.health import HealthServicer

STATUS = health_pb2.HealthCheckResponse


def test_a_watcher_is_told_of_the_end_even_while_an_answer_is_under_way() -> None:
    async def watch() -> list[int]:
        health = HealthServicer()
        health.set("model/m", True)
        answers = health.Watch(health_pb2.HealthCheckRequest(service="model/m"), None)
        first = (await anext(answers)).status
        health.close()  # before the generator goes on
        return [first, *[answer.status async for answer in answers]]

    assert asyncio.run(watch()) == [STATUS.SERVING, STATUS.NOT_SERVING]
