"""On what is trained: what a spec leaves out stays as it was, and what is not there is told before anything begins."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from headrace_data.spec import Compute, Train
from headrace_data.spec import Optimizer as OptimizerSpec
from headrace_learning.errors import NotLearnable
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.networks import weights_of
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.compute import Machine, machine_of, threads_of, told
from headrace_learning.training.loop import Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.optimizers import build_optimizer
from headrace_learning.training.randomness import make_deterministic, seed_weights
from headrace_learning.training.recomputing import blocks_of, recomputed
from headrace_learning.training.rows import Rows
from headrace_learning.training.scaling import LossScale

pytestmark = pytest.mark.slow


class Notebook:
    """Keeps a checkpoint after every second time that it is asked, as bytes."""

    def __init__(self, kept: list[tuple[bytes, bytes]] | None = None) -> None:
        self.kept = kept or []
        self.asked = 0
        self.losses: list[float] = []

    def newest(self, _subject: str) -> Checkpoint | None:
        return from_bytes(*self.kept[-1]) if self.kept else None

    def due(self, *, midway: bool) -> bool:
        self.asked += 1
        return midway and self.asked % 2 == 0

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(to_bytes(checkpoint))

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        assert step <= steps
        assert eta_s >= 0
        self.losses.append(metrics["validation_loss"])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


def rows(count: int, seed: int) -> Rows:
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return Rows(inputs, (inputs[:, 0] > inputs[:, 1]).long())


def fitted(compute: Mapping[str, Any] | None, notebook: Notebook, **changes: Any) -> Fitted:
    plain = {"network": {"kind": "mlp", "hidden": (16, 8), "dropout": 0.2}, "epochs": 4, "batch_size": 16, **changes}
    settings = Train.model_validate(plain if compute is None else {**plain, "compute": compute})
    weights = Classification(torch.tensor([1.0, 2.0]))
    run = Run(settings, (6,), 2, "what on what", notebook, notebook)
    return FAMILIES["mlp"].fit(settings.network, Sources(rows(150, 1), rows(60, 2)), weights, run)


def equal(one: Fitted, other: Fitted) -> bool:
    first, second = weights_of(one.network), weights_of(other.network)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("augment", [{}, {"augment": {"noise": 0.1, "mixup": 0.2}}])
def test_the_cpu_in_32_bits_is_what_is_left_out(augment: dict[str, Any]) -> None:
    assert equal(
        fitted(None, Notebook(), **augment),
        fitted({"device": "cpu", "precision": "fp32", "threads": 1}, Notebook(), **augment),
    )


def test_a_purse_that_runs_empty_behind_a_checkpoint_is_empty_for_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("headrace_learning.training.budget.time.process_time", lambda: clock[0])

    class Slow(Notebook):
        def due(self, *, midway: bool) -> bool:
            return not midway

        def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
            super().progress(step, steps, metrics, eta_s)
            clock[0] += 6.0

    straight = Slow()
    one = fitted(None, straight, budget={"cpu": "10s"})
    assert one.outcome.epochs == 2
    clock[0] = 0.0
    again = fitted(None, Slow(straight.kept), budget={"cpu": "10s"})
    assert again.outcome == one.outcome
    assert equal(one, again)


def test_16_bits_learn_as_well_repeat_and_go_on_in_the_midst_of_an_epoch() -> None:
    half, straight = {"device": "cpu", "precision": "bf16"}, Notebook()
    one, whole = fitted(half, straight), fitted(None, Notebook())
    assert not equal(one, whole)
    assert abs(one.outcome.best_loss - whole.outcome.best_loss) < 0.1
    assert {tensor.dtype for tensor in weights_of(one.network).values()} == {torch.float32}
    assert len(straight.kept) > 4
    for done in (0, 3, len(straight.kept)):
        torch.manual_seed(done)
        assert equal(one, fitted(half, Notebook(straight.kept[:done])))


def test_float16_learns_as_well_repeats_and_goes_on_in_the_midst_of_an_epoch() -> None:
    half, straight = {"device": "cpu", "precision": "fp16"}, Notebook()
    one, whole = fitted(half, straight), fitted(None, Notebook())
    assert not equal(one, whole)
    assert abs(one.outcome.best_loss - whole.outcome.best_loss) < 0.1
    for done in (0, 3, len(straight.kept)):
        torch.manual_seed(done)
        assert equal(one, fitted(half, Notebook(straight.kept[:done])))


def test_a_step_whose_gradients_overflow_is_left_out_and_halves_the_scale() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([([weight], 1.0)], OptimizerSpec(kind="sgd", learning_rate=1.0))
    scale, taken = LossScale(needed=True), []
    for size in (1.0, 1e36, 1.0):
        optimizer.zero_grad()
        torch.autograd.backward(scale.scaled(size * weight.sum()))
        taken.append(scale.unscale(optimizer))
        if taken[-1]:
            torch.testing.assert_close(weight.grad, torch.ones(2))
    assert taken == [True, False, True]
    again = LossScale(needed=True)
    again.restore(scale.memory())
    assert float(again.scaled(torch.ones(()))) == float(scale.scaled(torch.ones(()))) == 2.0**15


def test_gradients_that_float16_would_lose_are_kept_by_the_scale() -> None:
    tiny = torch.tensor(3e-8)
    scaled = LossScale(needed=True).scaled(tiny).to(torch.float16)
    assert float(tiny.to(torch.float16)) != pytest.approx(3e-8, rel=0.1)
    assert float(scaled) / 2.0**16 == pytest.approx(3e-8, rel=0.01)


def test_a_machine_that_cannot_compile_says_so_before_anything_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_compiler(_network: torch.nn.Module) -> torch.nn.Module:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", without_compiler)
    notebook = Notebook()
    with pytest.raises(NotLearnable, match=r"train\.compute\.compile: expected .* No working C\+\+ compiler found\)"):
        fitted({"device": "cpu", "compile": True}, notebook)
    assert not notebook.kept


class Block(torch.nn.Module):
    """Some layers with dropout; it counts how often it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.3), torch.nn.Tanh())
        self.computed = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.computed += 1
        answers: torch.Tensor = inputs + self.layers(inputs)
        return answers


def blocks_learned(compute: Mapping[str, Any] | None) -> tuple[Block, Mapping[str, torch.Tensor]]:
    train = {"network": {"kind": "python", "factory": "acme:blocks"}, "epochs": 2, "batch_size": 50}
    settings = Train.model_validate(train if compute is None else {**train, "compute": compute})
    seed_weights(0)
    block = Block()
    network = torch.nn.Sequential(block, torch.nn.Linear(6, 2))
    notebook = Notebook()
    Training(network, settings, Classification(), rows(150, 1), rows(60, 2), "s", notebook, notebook).run()
    return block, network.state_dict()


def test_blocks_that_compute_anew_learn_the_same_to_the_bit() -> None:
    block, plain = blocks_learned(None)
    again, weights = blocks_learned({"recompute": True})
    assert all(torch.equal(plain[name], weights[name]) for name in plain)
    assert (block.computed, again.computed) == (2 * (3 + 1), 2 * (2 * 3 + 1))
    assert "forward" not in vars(again)


def test_a_block_that_is_there_twice_computes_anew() -> None:
    block = Block()
    network = torch.nn.Sequential(block, block, torch.nn.Linear(6, 2))
    with recomputed(network, wanted=True):
        torch.autograd.backward(network(torch.ones(3, 6)).sum())
        assert block.computed == 4
    assert "forward" not in vars(block)


def test_blocks_that_count_batches_are_left_as_they_are() -> None:
    counting = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6))
    block = Block()
    assert blocks_of(torch.nn.Sequential(torch.nn.Sequential(counting, block), torch.nn.Linear(6, 2))) == [block]
    with (
        pytest.raises(NotLearnable, match=r"train\.compute\.recompute: expected a network with members of"),
        recomputed(counting, wanted=True),
    ):
        raise AssertionError


def test_only_layers_compute_in_16_bits() -> None:
    network, seen = torch.nn.Linear(4, 2), []
    network.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    answers = Machine(precision=torch.bfloat16).answers(network, torch.ones(3, 4))
    assert (answers.dtype, seen) == (torch.float32, [torch.bfloat16])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_of_before_anything_is_learned() -> None:
    notebook = Notebook()
    with pytest.raises(NotLearnable, match=r"train\.compute\.device: expected a GPU that PyTorch can use, got none"):
        fitted({"device": "cuda"}, notebook)
    assert not notebook.kept
    assert machine_of(Compute(device="auto")) == Machine()
    assert told(Compute(precision="bf16")) == {"device": "cpu", "precision": "bf16", "threads": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_nothing_can_be_computed_on_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine with one, where PyTorch was installed without what computes on it.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine_of(Compute(device="auto")) == Machine()
    with pytest.raises(NotLearnable, match=r"got none \(.+\): give this trainer one, with PyTorch as TORCH=cuda"):
        machine_of(Compute(device="cuda"))


def test_a_checkpoint_of_an_attempt_without_a_gpu_is_taken_up_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, _device: given.append(len(state)))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    torch.manual_seed(4)
    machine = Machine(torch.device("cuda"))
    machine.restore_generators(state)
    assert torch.equal(torch.get_rng_state(), state)
    assert not given
    machine.restore_generators(torch.cat([state, state[:16]]))
    assert given == [16]


def test_threads_are_bounded_by_the_cores() -> None:
    assert threads_of(None, 8) == 1
    assert [threads_of(Compute(threads=threads), 8) for threads in (1, 3, 64, "auto")] == [1, 3, 8, 8]


def test_the_state_of_one_process_is_taken_up_out_of_those_of_all() -> None:
    machine = machine_of(None)
    torch.manual_seed(5)
    state = machine.generator_state()
    expected = torch.rand(3)
    torch.manual_seed(6)
    machine.restore_generators(torch.stack([machine.generator_state(), state])[1])
    assert torch.equal(torch.rand(3), expected)
