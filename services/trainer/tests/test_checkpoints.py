from dataclasses import replace

import pytest
import torch
from headrace_learning.training import checkpoint as checkpoint_of
from headrace_learning.training.checkpoint import Checkpoint, Cut, Midway, Shard
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.folder import output_prefix
from headrace_trainer.adapters.checkpoints import StoredCheckpoints


def _checkpoint(epoch: int, subject: str = "s", batches: int = 0) -> Checkpoint:
    weights = {"w": torch.full((2,), float(epoch))}
    midway = Midway(batches, 1.5, torch.get_rng_state()) if batches else None
    return Checkpoint(subject, epoch, weights, weights, epoch, 0.5, {"steps": torch.tensor(epoch)}, midway)


def _attempt(store: ObjectStore, number: int, run_id: str = "run", interval_s: float = 0) -> StoredCheckpoints:
    return StoredCheckpoints(store, run_id, output_prefix(run_id, number), interval_s)


def _epoch(checkpoint: Checkpoint | None) -> int | None:
    return None if checkpoint is None else checkpoint.epoch


def test_an_attempt_finds_the_newest_checkpoint_of_all_attempts(store: ObjectStore) -> None:
    assert _attempt(store, 1).newest("s") is None

    first = _attempt(store, 1)
    for epoch in (1, 2, 3, 4, 5):
        first.save(_checkpoint(epoch))
    _attempt(store, 2).save(_checkpoint(2))

    found = _attempt(store, 3).newest("s")
    assert found is not None
    assert found.epoch == 5
    assert found.weights["w"].tolist() == [5.0, 5.0]
    assert found.optimizer["steps"] == 5
    assert _attempt(store, 1, run_id="other").newest("s") is None
    assert _attempt(store, 3).newest("another subject") is None


def test_only_two_checkpoints_are_kept(store: ObjectStore) -> None:
    attempt = _attempt(store, 1)
    # By time, any epochs may follow each other: two of even numbers must not write over each other.
    for epoch in (1, 2, 4, 6):
        attempt.save(_checkpoint(epoch))
        assert _epoch(_attempt(store, 2).newest("s")) == epoch
    store.write("runs/run/attempt-1/checkpoint-1.json", b"cut")
    assert _epoch(_attempt(store, 2).newest("s")) == 4

    assert store.list("runs/run") == [
        f"runs/run/attempt-1/checkpoint-{slot}.{end}" for slot in (0, 1) for end in ("json", "safetensors")
    ]


def test_a_crash_in_the_middle_of_writing_leaves_the_one_before(store: ObjectStore) -> None:
    attempt = _attempt(store, 1)
    for epoch in (4, 5):
        attempt.save(_checkpoint(epoch))

    # Epoch 6 would replace epoch 4; its tensors were written and its sidecar was not.
    store.write("runs/run/attempt-1/checkpoint-0.safetensors", b"tensors of epoch 6")
    assert _epoch(_attempt(store, 2).newest("s")) == 5

    store.write("runs/run/attempt-1/checkpoint-1.json", b'{"format":')
    assert _attempt(store, 2).newest("s") is None


def test_of_one_epoch_the_checkpoint_of_more_batches_is_newer(store: ObjectStore) -> None:
    attempt = _attempt(store, 1)
    for batches in (3, 9):
        attempt.save(_checkpoint(2, batches=batches))
    _attempt(store, 2).save(_checkpoint(2))

    found = _attempt(store, 3).newest("s")
    assert found is not None
    assert found.midway is not None
    assert (found.place, found.midway.loss) == ((2, 9), 1.5)
    assert torch.equal(found.midway.generator, torch.get_rng_state())


def test_of_one_place_the_checkpoint_of_more_processor_time_is_newer(store: ObjectStore) -> None:
    attempt = _attempt(store, 1)
    for spent_s, most_s in ((9.0, 9.0), (11.0, 11.0), (10.0, 11.0)):
        attempt.save(replace(_checkpoint(2), cpu_s=spent_s))
        found = _attempt(store, 2).newest("s")
        assert found is not None
        assert found.cpu_s == most_s


def test_checkpoints_are_due_after_a_time_or_after_each_epoch(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("headrace_trainer.adapters.checkpoints.time.monotonic", lambda: now[0])
    timed, each = _attempt(store, 1, interval_s=60), _attempt(store, 2, interval_s=0)

    assert (each.due(midway=False), each.due(midway=True)) == (True, False)
    assert not timed.due(midway=False)
    now[0] += 60
    assert timed.due(midway=False)
    assert timed.due(midway=True)
    timed.save(_checkpoint(1))
    assert not timed.due(midway=True)


def test_parts_count_where_all_processes_have_written_them(store: ObjectStore) -> None:
    ranks = [_attempt(store, 1) for _ in range(2)]

    def save(rank: int, epoch: int, batches: int = 0) -> None:
        cut = Cut(0, 2 * rank, 2, 4)
        ranks[rank].save(replace(_checkpoint(epoch, batches=batches), shard=Shard(rank, 2, {"w": cut})))

    def found(subject: str = "s") -> list[tuple[int, int]]:
        return [read().place for read in _attempt(store, 2).shards(subject)]

    save(0, 1)
    assert found() == []
    save(1, 1)
    assert found() == [(1, 0), (1, 0)]
    for rank in range(2):
        save(rank, 1, batches=3)
    assert found() == [(1, 3), (1, 3)], "within an epoch as well"
    save(0, 2)  # over the older one of this process; the other was killed before it had written
    assert found() == [(1, 3), (1, 3)]
    assert found("another subject") == []
    assert _attempt(store, 2).newest("s") is None, "a part is no checkpoint of a process that has everything"
    parts = [read() for read in _attempt(store, 2).shards("s")]
    assert [part.shard and part.shard.rank for part in parts] == [0, 1]
    store.write("runs/run/attempt-1/checkpoint-1.1-of-2.safetensors", b"cut")
    assert found() == []


def test_a_large_checkpoint_goes_through_a_file_and_is_the_same(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = _checkpoint(3, batches=2)
    _attempt(store, 1).save(saved)
    monkeypatch.setattr(checkpoint_of, "STREAMED_BYTES", 8)
    assert saved.is_large
    _attempt(store, 2).save(saved)
    for end in ("safetensors", "json"):
        small, large = (store.read(f"runs/run/attempt-{number}/checkpoint-0.{end}") for number in (1, 2))
        assert small == large
    assert _epoch(_attempt(store, 3).newest("s")) == 3
