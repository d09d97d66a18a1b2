"""What processes that train together share: rows, and the state of each."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from headrace_data.spec import Compute
from headrace_learning.errors import NotLearnable
from headrace_learning.training.checkpoint import Checkpoint, Midway, from_bytes, to_bytes
from headrace_learning.training.compute import Machine, processes_of, threads_of
from headrace_learning.training.group import Group, Questions, group_of, require_rows_apart
from headrace_learning.training.measuring import validate
from headrace_learning.training.objectives import Classification
from headrace_learning.training.rows import Rows


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_each_row_of_a_batch_is_of_one_process(count: int) -> None:
    parts = [Group(rank, 3).part(count) for rank in range(3)]
    rows = [number for part in parts if not part.is_empty for number in range(count)[part.rows]]
    assert rows == list(range(count))
    sizes = [len(range(count)[part.rows]) for part in parts]
    assert min(sizes) >= 1, "one without rows computes with one that counts nothing, as all take the same steps"
    assert max(sizes) - min(sizes) <= 1


def test_one_alone_asks_nobody() -> None:
    alone = group_of(Compute(processes=2))  # no agent has started this process
    assert alone == Group()
    assert (alone.leads, alone.sum(2.5), alone.leaders(3), alone.gathered([1, 2])) == (True, 2.5, 3, [[1, 2]])
    questions = Questions(alone)
    assert all(questions.now() for _ in range(3))
    alone.require_same("checkpoint", (1, 2))


def test_a_state_goes_back_to_the_process_that_had_it() -> None:
    one, both = torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    assert Group().stacked(one) is one
    for states, rank, expected in ((one, 0, [1, 2]), (one, 1, None), (both, 1, [3, 4]), (both, 2, None)):
        found = Group(rank, 3).own(states)
        assert (None if found is None else found.tolist()) == expected


def test_a_checkpoint_has_the_state_of_each_process() -> None:
    states = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    checkpoint = Checkpoint("s", 1, {}, {}, 0, math.inf, {}, Midway(3, 1.5, states))
    read = from_bytes(*to_bytes(checkpoint))
    assert read.midway is not None
    assert torch.equal(read.midway.generator, states)
    assert replace(read, midway=None) == replace(checkpoint, midway=None)


def test_means_over_a_batch_are_not_taken_in_parts() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    require_rows_apart(network, Group())
    with pytest.raises(NotLearnable, match=r"train\.compute\.processes: expected a network without batch norm"):
        require_rows_apart(network, Group(0, 2))


def test_processes_share_the_cores_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Compute(device="cpu", processes=3, threads="auto")
    assert [processes_of(asked, cores) for cores in (1, 2, 8)] == [1, 2, 3]
    assert [threads_of(asked, cores) for cores in (1, 2, 8)] == [1, 1, 2]
    assert processes_of(None, 8) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # and one on another machine
    assert (processes_of(asked, 8), threads_of(asked, 8)) == (2, 4)
    assert processes_of(Compute(device="cpu"), 8) == 1


def test_rows_that_each_measures_make_the_measurement_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network, rows = torch.nn.Linear(4, 3), Rows(torch.randn(5, 4), torch.randint(0, 3, (5,)))
    objective = Classification(torch.tensor([0.5, 1.0, 3.0]))
    expected = validate(network, rows, objective, Machine(), Group())
    said: list[list[float]] = []

    def note(_group: Group, values: Sequence[float]) -> list[list[float]]:
        said.append(list(values))
        return [list(values)]

    # What each of seven processes says when it is asked, then what each hears when all have.
    monkeypatch.setattr(Group, "gathered", note)
    for rank in range(7):
        validate(network, rows, objective, Machine(), Group(rank, 7))
    heard = [said[place::2] for place in range(2)]
    answers = iter(heard)
    monkeypatch.setattr(Group, "gathered", lambda _, _values: next(answers))
    found = validate(network, rows, objective, Machine(), Group(6, 7))
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.measures == pytest.approx(expected.measures, rel=1e-6)
