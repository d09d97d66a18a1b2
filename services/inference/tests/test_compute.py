from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from headrace_inference.core.quickness import AT_ONCE_S
from headrace_inference.core.releases import Release
from headrace_inference.core.shelf import LoadedVersion, Speed
from headrace_inference.core.signature import Signature
from headrace_inference.transport.compute import Compute
from headrace_runtime.errors import DeadlineExceeded, Overloaded
from headrace_runtime.rpc.admission import Capacity

MakeRelease = Callable[..., Release]


class Model:
    """Answers once its gate is open, and remembers in which thread."""

    signature = Signature([], [], 64)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.threads: list[str] = []

    def run(self, arrays: Any, outputs: Any) -> list[Any]:
        self.threads.append(threading.current_thread().name)
        assert self.gate.wait(30)
        return [arrays[name] for name in outputs]

    def sample(self) -> dict[str, Any]:
        return {}

    def tokens(self, arrays: Any) -> int:
        return 0


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def compute() -> Iterator[Compute]:
    compute = Compute(1, Capacity(calls=2, wait_s=60.0))
    yield compute
    compute.close()


def version(model: Model, make_release: MakeRelease, speed: Speed) -> LoadedVersion:
    return LoadedVersion(make_release(), model, speed, b"")


def run(
    compute: Compute, version: LoadedVersion, rows: int = 1, left_s: float | None = None
) -> Coroutine[Any, Any, Any]:
    ends_s = None if left_s is None else time.monotonic() + left_s
    left = (lambda: None) if ends_s is None else (lambda: ends_s - time.monotonic())
    return compute.run(version, {"x": np.zeros(rows)}, ["x"], rows, 8 * rows, left)


def test_quick_calls_stay_in_the_event_loop(compute: Compute, model: Model, make_release: MakeRelease) -> None:
    model.gate.set()
    asyncio.run(run(compute, version(model, make_release, Speed(AT_ONCE_S, 0.0))))
    assert model.threads == [threading.current_thread().name]


@pytest.mark.parametrize(("speed", "rows"), [(Speed(AT_ONCE_S * 1.01, 0.0), 1), (Speed(0.0, AT_ONCE_S / 10), 12)])
def test_slow_models_and_large_batches_leave_it(
    compute: Compute, model: Model, make_release: MakeRelease, speed: Speed, rows: int
) -> None:
    model.gate.set()
    (answer,), waited_s = asyncio.run(run(compute, version(model, make_release, speed), rows))
    assert len(answer) == rows
    assert waited_s >= 0
    assert model.threads == ["compute_0"]


def test_the_loop_goes_on_and_the_queue_is_bounded(compute: Compute, model: Model, make_release: MakeRelease) -> None:
    slow = version(model, make_release, Speed(1.0, 0.0))

    async def story() -> None:
        waiting = [asyncio.create_task(run(compute, slow)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"model 'digits': 2 calls wait already, one more would for 2\.00 s"):
            await run(compute, slow)
        model.gate.set()
        await asyncio.gather(*waiting)
        await run(compute, slow)

    asyncio.run(story())
    assert len(model.threads) == 3


def test_a_call_that_waited_past_its_deadline_is_not_computed(
    compute: Compute, model: Model, make_release: MakeRelease
) -> None:
    slow, left_s = version(model, make_release, Speed(0.02, 0.0)), 0.2

    async def story() -> None:
        first = asyncio.create_task(run(compute, slow))
        await asyncio.sleep(0)
        second, asked_s = asyncio.create_task(run(compute, slow, left_s=left_s)), time.monotonic()
        while time.monotonic() < asked_s + left_s:
            await asyncio.sleep(0.001)
        model.gate.set()
        await first
        with pytest.raises(DeadlineExceeded, match="the deadline passed before the model was asked"):
            await second

    asyncio.run(story())
    assert len(model.threads) == 1


def test_a_caller_that_left_keeps_its_place_and_no_arrays(
    compute: Compute, model: Model, make_release: MakeRelease
) -> None:
    slow = version(model, make_release, Speed(1.0, 0.0))
    arrays = [np.zeros(1) for _ in range(2)]
    kept = [weakref.ref(array) for array in arrays]

    async def story() -> None:
        begun = [compute.run(slow, {"x": arrays.pop()}, ["x"], 1, 8, lambda: None) for _ in range(2)]
        calls = [asyncio.create_task(each) for each in begun]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        with pytest.raises(Overloaded):
            await run(compute, slow)
        model.gate.set()
        while compute._admission.calls:
            await asyncio.sleep(0.001)
        (answer,), _ = await run(compute, slow)
        assert len(answer) == 1

    asyncio.run(story())
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert len(model.threads) == 2, "what waited in vain was computed"
