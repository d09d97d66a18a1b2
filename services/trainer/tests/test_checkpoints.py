import torch
from headrace_learning.checkpoint import Checkpoint
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs import output_prefix
from headrace_trainer.adapters.checkpoints import StoredCheckpoints


def _checkpoint(epoch: int, subject: str = "s") -> Checkpoint:
    weights = {"w": torch.full((2,), float(epoch))}
    return Checkpoint(subject, epoch, weights, weights, epoch, 0.5, {"steps": torch.tensor(epoch)})


def _attempt(store: ObjectStore, number: int, run_id: str = "run") -> StoredCheckpoints:
    return StoredCheckpoints(store, run_id, output_prefix(run_id, number))


def _epoch(checkpoint: Checkpoint | None) -> int | None:
    return None if checkpoint is None else checkpoint.epoch


def test_an_attempt_finds_the_newest_checkpoint_of_all_attempts(store: ObjectStore) -> None:
    assert _attempt(store, 1).newest("s") is None

    for epoch in (1, 2, 3, 4, 5):
        _attempt(store, 1).save(_checkpoint(epoch))
    _attempt(store, 2).save(_checkpoint(2))

    found = _attempt(store, 3).newest("s")
    assert found is not None
    assert found.epoch == 5
    assert found.weights["w"].tolist() == [5.0, 5.0]
    assert found.optimizer["steps"] == 5
    assert _attempt(store, 1, run_id="other").newest("s") is None
    assert _attempt(store, 3).newest("another subject") is None


def test_only_two_checkpoints_are_kept(store: ObjectStore) -> None:
    for epoch in range(1, 10):
        _attempt(store, 1).save(_checkpoint(epoch))

    assert store.list("runs/run") == [
        f"runs/run/attempt-1/checkpoint-{slot}.{end}" for slot in (0, 1) for end in ("json", "safetensors")
    ]


def test_a_crash_in_the_middle_of_writing_leaves_the_one_before(store: ObjectStore) -> None:
    for epoch in (4, 5):
        _attempt(store, 1).save(_checkpoint(epoch))

    # Epoch 6 would replace epoch 4; its tensors were written and its sidecar was not.
    store.write("runs/run/attempt-1/checkpoint-0.safetensors", b"tensors of epoch 6")
    assert _epoch(_attempt(store, 2).newest("s")) == 5

    store.write("runs/run/attempt-1/checkpoint-1.json", b'{"format":')
    assert _attempt(store, 2).newest("s") is None
