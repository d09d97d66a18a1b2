"""Steps that tell little of a row: gradients of each row beside plain ones, the noise, and what is counted."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import pytest
import torch
from headrace_data.spec import Privacy, Train
from headrace_learning.errors import NotLearnable
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.loop import Outcome
from headrace_learning.training.objectives import Classification
from headrace_learning.training.private import PrivateTraining, RowGradients, spending, training_of
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import RepeatedRows, Rows, Source
from torch import nn

pytestmark = pytest.mark.slow

PRIVACY = Privacy(epsilon=2.0, delta=5e-4, clip=0.5)


@dataclass
class Notebook:
    """Keeps every checkpoint, and finds none unless it is told to; never says that one is due."""

    begin: Checkpoint | None = None
    kept: list[Checkpoint] = field(default_factory=list)
    told: list[dict[str, float]] = field(default_factory=list)
    kept_before_told: list[bool] = field(default_factory=list)

    def newest(self, _subject: str) -> Checkpoint | None:
        return self.begin

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(checkpoint)

    def progress(self, step: int, _steps: int, metrics: Mapping[str, float], _eta_s: float) -> None:
        self.told.append(dict(metrics))
        self.kept_before_told.append(self.kept[-1].epoch == step)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


def some(rows: int, seed: int = 1) -> Rows:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 6, generator=random)
    return Rows(inputs, (inputs[:, 0] + inputs[:, 1] > 0).long())


def train_of(**changes: Any) -> Train:
    plain = {"network": {"kind": "mlp", "hidden": (4,)}, "epochs": 3, "batch_size": 20, "privacy": PRIVACY}
    return Train.model_validate(plain | changes)


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 2))


def trained(learner: nn.Module, rows: Source, notebook: Notebook, **changes: Any) -> Outcome:
    train = train_of(**changes)
    kind = training_of(train)
    assert kind is PrivateTraining
    return kind(learner, train, Classification(), rows, some(30, 2), "what on what", notebook, notebook).run()


def test_the_sum_is_that_of_each_rows_gradient_clipped() -> None:
    learner, rows = network().eval(), some(9)
    sums = RowGradients(learner, Classification(), 1.0).summed(rows)

    expected = {name: torch.zeros_like(each) for name, each in learner.named_parameters()}
    norms = []
    for place in range(9):
        loss = nn.functional.cross_entropy(learner(rows.inputs[[place]]), rows.targets[[place]])
        gradients = torch.autograd.grad(loss, list(learner.parameters()))
        norm = float(torch.cat([each.flatten() for each in gradients]).norm())
        norms.append(norm)
        for name, each in zip(expected, gradients, strict=True):
            expected[name] += each * min(1.0, 1.0 / norm)
    assert min(norms) < 1.0 < max(norms)  # some are clipped, others are not
    for name, each in expected.items():
        torch.testing.assert_close(sums[name], each)


def test_a_row_moves_the_sum_by_the_clip_at_most_whatever_is_in_it() -> None:
    learner, rows = network().eval(), some(8)
    gradients = RowGradients(learner, Classification(), 0.5)
    before = gradients.summed(rows)
    for value in (1e3, 3e38, math.nan, math.inf):
        more = Rows(torch.cat([rows.inputs, torch.full((1, 6), value)]), torch.cat([rows.targets, torch.tensor([1])]))
        after = gradients.summed(more)
        moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm()
        assert float(moved) <= 0.5 + 1e-5, value


def test_what_is_counted_is_no_less_than_what_is_spent() -> None:
    # Of steps that take every row the loss is known exactly: Balle and Wang, "Improving the Gaussian Mechanism for
    # Differential Privacy" (ICML 2018), theorem 8, of the noise that so many steps are together.
    spent = spending(Privacy(epsilon=3.0, delta=1e-5), 500, 500, 60)
    assert (spent.rate, spent.steps) == (1.0, 60)
    mean = math.sqrt(60) / spent.noise
    normal = NormalDist().cdf

    def delta(epsilon: float) -> float:
        return normal(mean / 2 - epsilon / mean) - math.exp(epsilon) * normal(-mean / 2 - epsilon / mean)

    assert delta(spent.epsilon) <= 1e-5 < delta(0.85 * spent.epsilon)
    assert 2.95 < spent.epsilon <= 3.0


def test_steps_that_take_few_rows_need_less_noise() -> None:
    # Abadi et al., section 5.2: batches of 600 of 60,000 rows, 100 epochs and noise 4 spend 1.26 at 1e-5 by
    # their moments.
    spent = spending(Privacy(epsilon=1.26, delta=1e-5), 60_000, 600, 100)
    assert spent.steps == 10_000
    assert 3.0 < spent.noise <= 4.0  # what is shown of the same noise has become a little less since


def test_less_is_spent_for_more_noise() -> None:
    noises = [spending(Privacy(epsilon=each, delta=1e-3), 200, 20, 5).noise for each in (0.5, 8.0)]
    assert noises == sorted(noises, reverse=True)


@pytest.mark.parametrize(
    ("privacy", "told"),
    [
        (Privacy(epsilon=2.0, delta=0.01), "delta: expected less than one over the 100 rows"),
        (Privacy(epsilon=1e-6, delta=1e-12), "epsilon: expected more"),
    ],
)
def test_what_no_noise_can_promise_is_refused(privacy: Privacy, told: str) -> None:
    with pytest.raises(NotLearnable, match=told):
        spending(privacy, 100, 20, 5)


def test_the_noise_of_a_step_is_as_large_as_it_is_told_and_another_each_time() -> None:
    rows, changes = some(40), []
    for _ in range(2):
        torch.manual_seed(7)
        learner = nn.Sequential(nn.Linear(6, 500), nn.ReLU(), nn.Linear(500, 2))
        before = torch.cat([each.detach().clone().flatten() for each in learner.parameters()])
        rule = {"kind": "sgd", "learning_rate": 1.0}
        # All rows in one step; a small clip, so that what moves the weights is noise and nothing else.
        outcome = trained(
            learner, rows, Notebook(), epochs=1, batch_size=40, optimizer=rule, privacy=Privacy(epsilon=0.5, delta=1e-3)
        )
        changes.append(torch.cat([each.detach().flatten() for each in learner.parameters()]) - before)
        assert outcome.privacy is not None
        assert 40 * float(changes[-1].std()) == pytest.approx(outcome.privacy["noise_multiplier"], rel=0.05)
    assert not torch.equal(*changes)


def test_a_run_says_what_it_spent_and_never_the_loss_of_its_rows() -> None:
    notebook = Notebook()
    outcome = trained(network(), some(200), notebook)
    assert outcome.epochs == 3
    assert outcome.privacy is not None
    assert outcome.privacy["epsilon"] <= 2.0
    assert (outcome.privacy["steps"], outcome.privacy["sample_rate"]) == (30, 0.1)
    assert [sorted(each) for each in notebook.told] == [["validation_accuracy", "validation_loss"]] * 3
    # What was told of is never run again, though no checkpoint was due.
    assert notebook.kept_before_told == [True] * 3


def test_a_run_that_goes_on_makes_the_steps_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Notebook()
    trained(network(), some(200), first, batch_size=50)
    steps: list[tuple[float, ...]] = []
    own = PrivateTraining._step

    def counted(self: PrivateTraining, *told: float) -> None:
        steps.append(told)
        own(self, *told)

    monkeypatch.setattr(PrivateTraining, "_step", counted)
    outcome = trained(network(), some(200), Notebook(begin=first.kept[1]), batch_size=50)
    assert (outcome.epochs, len(steps)) == (3, 4)
    assert outcome.privacy is not None
    assert outcome.privacy["steps"] == 12


def test_layers_that_mix_rows_are_named() -> None:
    mixing = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    with pytest.raises(NotLearnable, match=r"such as GroupNorm or LayerNorm, got 1 \(BatchNorm1d\)"):
        trained(mixing, some(40), Notebook())


def test_a_network_that_looks_at_values_is_refused_before_a_step() -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.layer(rows) if bool((rows > 0).any()) else self.layer(-rows)

    notebook = Notebook()
    with pytest.raises(NotLearnable, match=r"row by row \(torch.func.vmap\), got RuntimeError"):
        trained(Looking(), some(40), notebook)
    assert notebook.kept == []


def test_rows_that_do_not_fit_into_memory_are_refused() -> None:
    with pytest.raises(NotLearnable, match="fits into memory"):
        trained(network(), RepeatedRows(some(40), torch.arange(40)), Notebook())


def test_a_private_network_learns() -> None:
    notebook = Notebook()
    rule = {"kind": "adam", "learning_rate": 0.1}
    trained(network(), some(1000), notebook, epochs=3, batch_size=200, optimizer=rule)
    assert notebook.told[-1]["validation_accuracy"] > 0.8
