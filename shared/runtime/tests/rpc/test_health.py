from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace_runtime.rpc.health import HealthServicer
from headrace_runtime.rpc.host import GrpcHost

STATUS = health_pb2.HealthCheckResponse
MESSAGES = {message.__name__: message for message in (health_pb2.HealthCheckRequest, health_pb2.HealthListRequest)}


def test_a_watcher_is_told_of_the_end_even_while_an_answer_is_under_way() -> None:
    async def watch() -> list[int]:
        health = HealthServicer()
        health.set("model/m", True)
        answers = health.Watch(health_pb2.HealthCheckRequest(service="model/m"), None)
        first = (await anext(answers)).status
        health.close()  # before the generator goes on
        return [first, *[answer.status async for answer in answers]]

    assert asyncio.run(watch()) == [STATUS.SERVING, STATUS.NOT_SERVING]


def test_a_server_answers_every_method_of_the_protocol() -> None:
    host = GrpcHost("127.0.0.1:0", [], ["test.Service"])
    host.start()
    host.set_serving(False, "model/m")
    with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        listed = stub.List(health_pb2.HealthListRequest(), timeout=30).statuses
        for method in health_pb2.DESCRIPTOR.services_by_name["Health"].methods:
            answered = getattr(stub, method.name)(MESSAGES[method.input_type.name](), timeout=30)
            assert next(answered).status == STATUS.SERVING if method.server_streaming else answered
    host.stop()
    assert {name: answer.status for name, answer in listed.items()} == {
        "": STATUS.SERVING,
        "live": STATUS.SERVING,
        "test.Service": STATUS.SERVING,
        "model/m": STATUS.NOT_SERVING,
    }
