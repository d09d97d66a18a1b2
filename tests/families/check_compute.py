"""What is compiled for training learns as what is not, alone and with blocks that compute anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from headrace_data.spec import Train
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.loop import Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import make_deterministic, seed_weights
from headrace_learning.training.rows import Rows
from torch import nn

pytestmark = pytest.mark.timeout(900)


class Nothing:
    """Keeps no checkpoint and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, _checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def learned(compute: Mapping[str, Any]) -> tuple[float, nn.Module]:
    make_deterministic()
    inputs = torch.randn(150, 6, generator=torch.Generator().manual_seed(1))
    rows = Rows(inputs, (inputs[:, 0] > inputs[:, 1]).long())
    train = {"network": {"kind": "python", "factory": "a.b:c"}, "epochs": 3, "batch_size": 64, "compute": compute}
    seed_weights(0)
    block = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6), nn.Tanh())
    network = nn.Sequential(block, nn.Linear(6, 2))
    nothing = Nothing()
    settings = Train.model_validate(train)
    outcome = Training(network, settings, Classification(), rows, rows, "s", nothing, nothing).run()
    return outcome.best_loss, network


@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_compiled_learns_the_same(recompute: bool) -> None:
    plain, _ = learned({})
    compiled, network = learned({"compile": True, "recompute": recompute})
    again, _ = learned({"compile": True, "recompute": recompute})
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert again == compiled
    assert type(network) is nn.Sequential
