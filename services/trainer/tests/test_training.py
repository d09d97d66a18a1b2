"""The loop by itself, on rows that are easy to learn."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from headrace_data.spec import Budget, EarlyStop, MlpNetwork, Optimizer, Train
from headrace_learning.errors import Diverged
from headrace_learning.families.mlp import mlp
from headrace_learning.networks import weights_of
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.loop import Outcome, Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import order_of_rows, seed_for, seed_weights
from headrace_learning.training.rows import Rows


class Notebook:
    """Keeps checkpoints and progress in memory."""

    def __init__(self, checkpoints: list[Checkpoint] | None = None, every: int = 0) -> None:
        """Keep one after each epoch, or, whether an epoch ends there or not, after `every` times it was asked."""
        self.checkpoints = checkpoints or []
        self.every = every
        self.asked = 0
        self.steps: list[tuple[int, int, Mapping[str, float], float]] = []

    def newest(self, subject: str) -> Checkpoint | None:
        return next((each for each in reversed(self.checkpoints) if each.subject == subject), None)

    def due(self, *, midway: bool) -> bool:
        self.asked += 1
        return self.asked % self.every == 0 if self.every else not midway

    def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.steps.append((step, steps, metrics, eta_s))


def _settings(**changes: Any) -> Train:
    defaults: dict[str, Any] = {
        "network": MlpNetwork(kind="mlp", hidden=(8,), dropout=0.2),
        "optimizer": Optimizer(learning_rate=0.02),
        "epochs": 12,
        "batch_size": 16,
        "seed": 3,
    }
    return Train(**(defaults | changes))


def _rows(rows: int, seed: int) -> Rows:
    """Which of two numbers is larger, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 2, generator=generator)
    noise = torch.randn(rows, generator=generator) * 0.3
    return Rows(inputs, (inputs[:, 0] > inputs[:, 1] + noise).long())


def _train(
    settings: Train, notebook: Notebook, subject: str = "subject", validation: Rows | None = None
) -> tuple[Outcome, dict[str, torch.Tensor]]:
    seed_weights(settings.seed)
    network = mlp(2, (8,), 2, dropout=0.2)
    rows = _rows(100, 1), validation or _rows(60, 2)
    training = Training(network, settings, Classification(), *rows, subject, notebook, notebook)
    return training.run(), weights_of(network)


def _equal(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(some[name], others[name]) for name in some)


def test_the_loss_falls_and_every_epoch_is_reported() -> None:
    notebook = Notebook()

    outcome, _ = _train(_settings(), notebook)

    assert outcome.epochs == 12
    assert [(step, steps) for step, steps, _, _ in notebook.steps] == [(epoch, 12) for epoch in range(1, 13)]
    first, last = notebook.steps[0][2], notebook.steps[-1][2]
    assert set(first) == {"train_loss", "validation_loss", "validation_accuracy"}
    assert last["train_loss"] < 0.8 * first["train_loss"]
    assert last["validation_accuracy"] > 0.8
    assert notebook.steps[-1][3] == 0
    assert [each.epoch for each in notebook.checkpoints] == list(range(1, 13))


def test_the_best_epochs_weights_are_kept_and_not_the_last_ones() -> None:
    notebook = Notebook()
    # Labels turned round: the better the network learns, the worse it does on these.
    wrong = Rows(_rows(60, 2).inputs, 1 - _rows(60, 2).targets)

    outcome, weights = _train(_settings(), notebook, validation=wrong)

    losses = [metrics["validation_loss"] for _, _, metrics, _ in notebook.steps]
    assert outcome.best_loss == min(losses)
    assert outcome.best_epoch == losses.index(min(losses)) + 1 < 12
    assert _equal(weights, notebook.checkpoints[outcome.best_epoch - 1].weights)
    assert not _equal(weights, notebook.checkpoints[-1].weights)


@pytest.mark.parametrize(
    "choice",
    [
        {"accumulate": 3},
        {"average": 0.9, "clip": 0.5},
        {"kind": "adamw", "weight_decay": 0.1, "schedule": {"kind": "cosine", "warmup": 1.5}},
        {"learning_rate": 0.3, "schedule": {"kind": "plateau", "patience": 1, "factor": 0.5}},
    ],
    ids=lambda choice: "+".join(choice),
)
@pytest.mark.parametrize("every", [0, 7])
def test_whatever_moves_the_weights_a_run_that_goes_on_ends_where_one_without_a_stop_does(
    choice: dict[str, Any], every: int
) -> None:
    settings = _settings(optimizer=Optimizer.model_validate({"learning_rate": 0.02, **choice}), epochs=6)
    notebook = Notebook(every=every)
    straight = _train(settings, notebook)
    plain = _train(
        _settings(optimizer=Optimizer(learning_rate=choice.get("learning_rate", 0.02)), epochs=6), Notebook()
    )
    assert not _equal(straight[1], plain[1])
    for kept in range(1, len(notebook.checkpoints)):
        read = [from_bytes(*to_bytes(each)) for each in notebook.checkpoints[:kept]]
        resumed = _train(settings, Notebook(read))
        assert resumed[0] == straight[0]
        assert _equal(resumed[1], straight[1])


def test_a_run_ends_in_order_when_its_processor_time_is_spent() -> None:
    settings = _settings(epochs=10_000, budget=Budget.model_validate({"cpu": "300ms"}))
    notebook = Notebook()
    outcome, weights = _train(settings, notebook)
    assert 1 <= outcome.best_epoch <= outcome.epochs < 10_000
    last = notebook.checkpoints[-1]
    assert last.cpu_s >= 0.3
    assert _equal(weights, last.best_weights)
    # Who takes it up has nothing left to spend, and gives what there is.
    again = Notebook([from_bytes(*to_bytes(last))])
    assert _train(settings, again)[0] == outcome
    assert again.steps == []


def test_a_run_without_time_for_one_epoch_gives_the_part_that_it_did() -> None:
    settings = _settings(batch_size=1, epochs=5, budget=Budget.model_validate({"cpu": "1ms"}))
    outcome, weights = _train(settings, Notebook())
    whole, _ = _train(_settings(batch_size=1, epochs=1), Notebook())
    assert (outcome.epochs, outcome.best_epoch) == (1, 1)
    assert outcome.best_loss != whole.best_loss
    assert weights


def test_gathered_gradients_are_those_of_a_larger_batch() -> None:
    network = MlpNetwork(kind="mlp", hidden=(8,))
    ends = []
    for size, together in ((40, 1), (10, 4)):
        optimizer = Optimizer(kind="sgd", learning_rate=0.5, accumulate=together)
        settings = _settings(network=network, optimizer=optimizer, batch_size=size, epochs=4)
        seed_weights(3)
        ours = mlp(2, (8,), 2)
        training = Training(ours, settings, Classification(), _rows(100, 1), _rows(60, 2), "s", Notebook(), Notebook())
        training.run()
        ends.append(weights_of(ours))
    for name, weights in ends[0].items():
        torch.testing.assert_close(ends[1][name], weights, atol=1e-5, rtol=1e-4)


def test_training_stops_when_the_loss_stands_still() -> None:
    outcome, _ = _train(_settings(epochs=500, early_stop=EarlyStop(patience=3)), Notebook())
    impatient, _ = _train(_settings(epochs=500, early_stop=EarlyStop(patience=3, min_delta=0.5)), Notebook())

    assert outcome.epochs == outcome.best_epoch + 3 < 500
    # Half a nat is more than any later epoch gains.
    assert (impatient.best_epoch, impatient.epochs) == (1, 4)


@pytest.mark.parametrize("stopped_after", [1, 6, 12])
def test_a_run_that_goes_on_from_a_checkpoint_ends_the_same(stopped_after: int) -> None:
    straight = Notebook()
    expected, weights = _train(_settings(), straight)

    resumed = Notebook(straight.checkpoints[:stopped_after])
    outcome, again = _train(_settings(), resumed)

    assert outcome == expected
    assert _equal(again, weights)
    assert [step for step, _, _, _ in resumed.steps] == list(range(stopped_after + 1, 13))


def test_a_run_that_goes_on_in_the_midst_of_an_epoch_ends_the_same() -> None:
    expected, weights = _train(_settings(), Notebook())
    # Seven batches of 16 make an epoch of 100 rows.
    straight = Notebook(every=5)
    _train(_settings(), straight)
    places = [each.place for each in straight.checkpoints]
    assert places[:4] == [(0, 5), (1, 3), (2, 1), (2, 6)]
    assert places[-1] == (12, 0)

    for number, place in enumerate(places):
        resumed = Notebook([from_bytes(*to_bytes(straight.checkpoints[number]))], every=10**6)
        outcome, again = _train(_settings(), resumed)

        assert outcome == expected, place
        assert _equal(again, weights), place
        assert [step for step, _, _, _ in resumed.steps] == list(range(place[0] + 1, 13))
        # Of a run that was done nothing is kept again.
        assert [each.place for each in resumed.checkpoints[1:]] == ([(12, 0)] if place != (12, 0) else [])


def test_the_last_state_is_kept_when_no_checkpoint_was_due() -> None:
    notebook = Notebook(every=10**6)
    outcome, _ = _train(_settings(epochs=500, early_stop=EarlyStop(patience=3)), notebook)

    assert [each.place for each in notebook.checkpoints] == [(outcome.epochs, 0)]


def test_the_checkpoint_of_another_subject_is_left_alone() -> None:
    straight, other = Notebook(), Notebook()
    _train(_settings(), straight, subject="one")

    other.checkpoints = list(straight.checkpoints)
    _train(_settings(), other, subject="two")

    assert [step for step, _, _, _ in other.steps] == list(range(1, 13))


def test_a_loss_that_is_no_number_ends_the_run_with_advice() -> None:
    settings = _settings(optimizer=Optimizer(kind="sgd", learning_rate=10.0, weight_decay=1.0), epochs=500)

    with pytest.raises(Diverged, match="try a lower"):
        _train(settings, Notebook())


def test_the_order_of_rows_is_a_function_of_seed_and_epoch() -> None:
    assert torch.equal(order_of_rows(50, 7, 3), order_of_rows(50, 7, 3))
    assert sorted(order_of_rows(50, 7, 3).tolist()) == list(range(50))
    assert not torch.equal(order_of_rows(50, 7, 3), order_of_rows(50, 7, 4))
    assert not torch.equal(order_of_rows(50, 7, 3), order_of_rows(50, 8, 3))
    assert len({seed_for(purpose, 7, 3) for purpose in ("order", "epoch", "weights")}) == 3
