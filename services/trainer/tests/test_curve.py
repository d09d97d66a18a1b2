"""The learning curve in the store: every epoch, whole files, and no run that fails for want of it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from headrace_runtime.errors import Unavailable
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.curve import StoredCurve

OUTPUT = "runs/train-1/attempt-2/"


class Heard:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.steps.append(step)


class Broken(ObjectStore):
    def write(self, name: str, data: bytes, *, flushed: bool = True) -> None:
        raise Unavailable(f"{name}: the disk is full")


@pytest.mark.parametrize("interval_s", [0.0, 3600.0])
def test_every_epoch_is_handed_on_and_kept(tmp_path: Path, interval_s: float) -> None:
    store, heard = ObjectStore(str(tmp_path)), Heard()
    curve = StoredCurve(heard, store, OUTPUT, interval_s)
    for epoch in range(1, 4):
        curve.progress(epoch, 3, {"train_loss": 1 / epoch}, 0.0)
        assert (store.read(f"{OUTPUT}curve.json") is not None) == (interval_s == 0.0)
    curve.write()
    kept = json.loads(store.read(f"{OUTPUT}curve.json") or b"")
    assert kept == [{"epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2, 3)]
    assert heard.steps == [1, 2, 3]


def test_a_store_that_fails_costs_the_curve_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    curve = StoredCurve(Heard(), Broken(str(tmp_path)), OUTPUT, 0.0)
    with caplog.at_level(logging.WARNING):
        curve.progress(1, 1, {"train_loss": 1.0}, 0.0)
    assert "the learning curve is not kept" in caplog.text
