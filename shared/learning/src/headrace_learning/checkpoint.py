"""A training run's state after an epoch, as safetensors with a JSON sidecar.

Nothing random is kept: the order of the rows and the units that dropout silences are functions of (seed, epoch), so a
run that goes on from a checkpoint ends with the same weights as one that was never stopped. The sidecar names the
digest of the tensors and is written after them: who finds a sidecar that fits its tensors has a whole checkpoint.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from headrace_data.canonical import sha256_digest

from headrace_learning.errors import BrokenCheckpoint

FORMAT = "headrace-checkpoint/2"

_WEIGHTS = "weights/"
_BEST = "best/"
_OPTIMIZER = "optimizer/"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on after `epoch`."""

    subject: str
    """What is trained on what: a checkpoint of another subject is of no use. A digest."""
    epoch: int
    """Epochs done."""
    weights: Mapping[str, torch.Tensor]
    """The network's parameters and buffers by name, after `epoch`."""
    best_weights: Mapping[str, torch.Tensor]
    """The same after `best_epoch`."""
    best_epoch: int
    best_loss: float
    """Validation loss after `best_epoch`, in nats."""
    optimizer: Mapping[str, torch.Tensor]
    """The optimiser's memory: tensors by name."""


def to_bytes(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """Return the tensors as safetensors and the sidecar as JSON. Write the tensors first."""
    tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {f"{_BEST}{name}": tensor for name, tensor in checkpoint.best_weights.items()}
    tensors |= {f"{_OPTIMIZER}{name}": tensor for name, tensor in checkpoint.optimizer.items()}
    data = tensors_to_bytes(tensors)
    sidecar = {
        "format": FORMAT,
        "subject": checkpoint.subject,
        "epoch": checkpoint.epoch,
        "best_epoch": checkpoint.best_epoch,
        "best_loss": checkpoint.best_loss,
        "tensors": sha256_digest(data),
    }
    return data, json.dumps(sidecar, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def from_bytes(data: bytes, sidecar: bytes) -> Checkpoint:
    """Read what `to_bytes` wrote. Raise `BrokenCheckpoint` when the two are not whole or do not belong together."""
    try:
        values = json.loads(sidecar)
        if values["format"] != FORMAT:
            raise BrokenCheckpoint(f"checkpoint: expected format {FORMAT}, got {values['format']!r}")
        if values["tensors"] != sha256_digest(data):
            raise BrokenCheckpoint(f"checkpoint: expected tensors {values['tensors']}, got {sha256_digest(data)}")
        tensors = safetensors.torch.load(data)
        return Checkpoint(
            subject=str(values["subject"]),
            epoch=int(values["epoch"]),
            weights=_below(tensors, _WEIGHTS),
            best_weights=_below(tensors, _BEST),
            best_epoch=int(values["best_epoch"]),
            best_loss=float(values["best_loss"]),
            optimizer=_below(tensors, _OPTIMIZER),
        )
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise BrokenCheckpoint(
            f"checkpoint: expected tensors and a sidecar that can be read, got {type(error).__name__}: {error}"
        ) from error


def tensors_to_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors as safetensors. The bytes depend on names and values alone."""
    # Copies, because the format has no place for two names of one memory, such as the latest weights that are the best.
    return safetensors.torch.save({name: tensors[name].contiguous().clone() for name in sorted(tensors)})


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
