"""Learning rates over the epochs, beside those of PyTorch's schedulers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from headrace_data.spec import Optimizer
from headrace_learning.training.schedules import Schedule
from headrace_learning.training.steps import Steps
from torch.optim import lr_scheduler

EPOCHS = 12


def schedule(**section: Any) -> Schedule:
    return Schedule(Optimizer.model_validate({"schedule": section}).schedule, EPOCHS)


def by_pytorch(make: Callable[[torch.optim.Optimizer], Any], told: list[float] | None = None) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        # The weights are not moved: only the rates are looked at.
        warnings.simplefilter("ignore", UserWarning)
        for epoch in range(EPOCHS):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            reference.step(*() if told is None else (told[epoch],))
    return rates


def test_without_a_schedule_the_rate_stays() -> None:
    assert {Schedule(None, EPOCHS).factor(epoch, 1.0) for epoch in range(EPOCHS)} == {1.0}


def test_cosine_falls_to_its_floor() -> None:
    ours = schedule(kind="cosine", floor=0.1)
    rates = by_pytorch(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=0.1))
    assert [ours.factor(epoch, 1.0) for epoch in range(EPOCHS)] == pytest.approx(rates)
    assert ours.factor(EPOCHS, 0.0) == pytest.approx(0.1)


def test_steps_fall_every_so_many_epochs() -> None:
    ours = schedule(kind="step", every=5, factor=0.5)
    rates = by_pytorch(lambda optimizer: lr_scheduler.StepLR(optimizer, 5, gamma=0.5))
    assert [ours.factor(epoch + 0.9, 0.1) for epoch in range(EPOCHS)] == pytest.approx(rates)


def test_a_plateau_lowers_the_rate_and_is_remembered() -> None:
    losses = [1.0, 0.9, 0.95, 0.9, 0.93, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.7]
    ours, factors, best = schedule(kind="plateau", patience=2, factor=0.5), [], float("inf")
    for epoch, loss in enumerate(losses):
        factors.append(ours.factor(epoch, 1.0))
        ours.saw(better=loss < best)
        best = min(best, loss)
        resumed = schedule(kind="plateau", patience=2, factor=0.5)
        resumed.restore(ours.memory())
        ours = resumed
    # PyTorch waits for one epoch more than its patience.
    rates = by_pytorch(
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.0), losses
    )
    assert factors == pytest.approx(rates)


def test_the_rate_warms_up_within_epochs() -> None:
    ours, steps = schedule(kind="constant", warmup=1.5), Steps(100, 10, 1)
    factors = [ours.factor(epoch + steps.passed(batch), steps.share(batch)) for epoch in (0, 1) for batch in range(10)]
    assert factors == pytest.approx([min(1.0, (number + 1) / 15) for number in range(20)])


def test_batches_of_a_step_count_by_their_rows() -> None:
    steps = Steps(rows=95, size=10, together=4)
    assert [batch for batch in range(10) if steps.begins(batch)] == [0, 4, 8]
    assert [batch for batch in range(10) if steps.ends(batch)] == [3, 7, 9]
    assert steps.is_last(9)
    assert not steps.is_last(8)
    assert [steps.passed(batch) for batch in (0, 3, 4, 9)] == [0.0, 0.0, 40 / 95, 80 / 95]
    assert [steps.weight(batch, 10 if batch < 9 else 5) for batch in (0, 8, 9)] == [0.25, 10 / 15, 5 / 15]
    assert sum(steps.share(batch) for batch in (0, 4, 8)) == pytest.approx(1.0)
