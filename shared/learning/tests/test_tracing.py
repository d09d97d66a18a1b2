"""Modules of anybody's as graphs: the same bytes again, PyTorch's answers, and a reason where there can be no graph."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from headrace_data.transforms import FittedTransform
from headrace_learning import tracing
from headrace_learning.bodies import Body
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.export import export_graph
from headrace_learning.features import Feature
from headrace_learning.graphs import LOGITS, with_logits
from headrace_learning.served import ServedClassifier
from headrace_learning.tracing import trace
from headrace_learning.writer import Writer
from torch import nn

pytestmark = pytest.mark.slow

SUBJECT = "train.network.factory far.nets:mine"
HOSTILE = np.array([0.0, -0.0, 1e-45, -1e-38, 1e20, -1e20, 3e5, 1.5, -2.5, 7.0], np.float32)


class Seeing(nn.Module):
    """Convolutions, norms of both kinds, recurrence, attention and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten())
        self.read = nn.GRU(5, 8, batch_first=True)
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        self.drop = nn.Dropout(0.4)
        self.answer = nn.Linear(4 * 30 + 8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states, _ = self.read(torch.tanh(images[:, 0]))
        return self.answer(self.drop(torch.cat([self.look(images), self.attend(states).mean(dim=1)], dim=1)))


class Written(nn.Module):
    """A module that is traced when it is written."""

    outputs = 3

    def __init__(self, module: nn.Module, body: Body) -> None:
        super().__init__()
        self.module = module
        self.body = body

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.module(inputs)
        return answers

    def write(self, writer: Writer, value: str) -> str:
        return self.body.write(writer, value)


def seeing() -> nn.Module:
    """Return one that has seen rows, so that its norms are not those of the beginning."""
    torch.manual_seed(4)
    module = Seeing()
    module.train()
    module(torch.randn(64, 1, 6, 5) * 3 + 1)
    return module


def test_a_module_becomes_the_same_graph_again_and_answers_as_pytorch_does() -> None:
    module = seeing()
    body, again = (trace(each, (1, 6, 5), SUBJECT) for each in (module, seeing()))
    assert (body.shape, body.outputs, module.training) == ((1, 6, 5), 3, True)
    body.require_rows_apart(np.random.default_rng(2).normal(size=(4, 1, 6, 5)).astype(np.float32))

    feature = Feature(FittedTransform("pixels", "none", np.zeros((6, 5)), np.ones((6, 5))), "float32", (6, 5))
    rows = np.resize(HOSTILE, (1024, 6, 5)).astype(np.float32)
    rows[10:] = np.random.default_rng(1).normal(1, 3, (1014, 6, 5))
    rows[:10] = np.clip(rows[:10], -1e6, 1e6)
    graphs = []
    for each in (body, again):
        model = ServedClassifier([feature], (1, 6, 5), Written(module, each))
        graphs.append(export_graph(model, [0, 1, 2], {"pixels": rows}).data)
    assert graphs[0] == graphs[1]

    session = open_graph(with_logits(graphs[0]))
    module.eval()
    for count in (1, 7, 1024):
        (logits,) = session.run({"pixels": rows[:count]}, [LOGITS])
        with torch.no_grad():
            expected = module(torch.from_numpy(rows[:count, None])).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


class Branching(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows) if rows.sum() > 0 else -super().forward(rows)


class Counting(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for _ in range(int(rows[0, 0])):
            rows = rows + 1
        return super().forward(rows)


class Fixed(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows.reshape(2, 3))


class Raising(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such luck")


class Drawing(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows + torch.randn_like(rows))


class Deep(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows)[:, :, None]


REFUSED: dict[Callable[[int, int], nn.Module], str] = {
    Branching: "torch.export can follow .*, whatever their values are, got GuardOnDataDependent",
    Counting: "torch.export can follow .*, whatever their values are, got GuardOnDataDependent",
    Fixed: r"any number of rows in its first dimension, got \[2, 3\]",
    Raising: "torch.export can follow .* got KeyError: 'no such luck'",
    Drawing: "the same answer each time, got RandomNormal",
    Deep: r"answers \[batch, outputs\], got \[batch, 2, 1\]",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_module_that_can_have_no_graph_is_refused_by_the_name_of_its_subject(
    kind: Callable[[int, int], nn.Module],
) -> None:
    with pytest.raises(NotLearnable, match=f"^{SUBJECT}: expected .*{REFUSED[kind]}"):
        trace(kind(3, 2), (3,), SUBJECT)


def test_a_module_that_no_message_holds_is_told_of_before_it_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_BYTES", 39)
    with pytest.raises(NotLearnable, match="network: expected a module of at most 39 bytes of weights, got 40"):
        trace(nn.Linear(4, 2), (4,), "network")
