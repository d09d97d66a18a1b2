"""A training run's state after an epoch or in the midst of one, as safetensors with a JSON sidecar.

The order of the rows and the units that dropout silences are functions of (seed, epoch), so a run that goes on from a
checkpoint ends with the same weights as one that was never stopped. Only in the midst of an epoch the generator's state
is kept, which dropout has drawn from by then. The sidecar names the digest of the tensors and is written after them:
who finds a sidecar that fits its tensors has a whole checkpoint.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from headrace_data.canonical import sha256_digest

from headrace_learning.errors import BrokenCheckpoint

STREAMED_BYTES: Final = 256 * 2**20
"""What the tensors of a checkpoint may take that are bytes in memory; more of them are written into a file."""
FORMAT = "headrace-checkpoint/3"
_READ = ("headrace-checkpoint/2", FORMAT)
"""The formats that are read: the second knew no place within an epoch."""

_WEIGHTS = "weights/"
_BEST = "best/"
_OPTIMIZER = "optimizer/"
_GENERATOR = "generator"


@dataclass(frozen=True)
class Midway:
    """How far a run is in an epoch that is not done."""

    batches: int
    """Batches of the epoch that are done; at least one."""
    loss: float
    """Sum of the losses of their rows."""
    generator: torch.Tensor
    """State of PyTorch's global generator after them, [bytes] uint8; of several processes [processes, bytes]."""


@dataclass(frozen=True)
class Cut:
    """Which part of a tensor a process has."""

    dim: int
    """Along which dimension it is cut."""
    start: int
    """The first place that is there."""
    length: int
    """How many are, from none."""
    total: int
    """How many the whole tensor has."""


@dataclass(frozen=True)
class Shard:
    """What one of several processes has of a network whose weights are spread over them."""

    rank: int
    size: int
    cuts: Mapping[str, Cut]
    """By the name of the weight; what is not cut is whole in each process."""

    def cut_of(self, name: str) -> Cut | None:
        """Return the cut of a weight, or of what is kept beside one, which has a prefix before the weight's name."""
        while name not in self.cuts:
            _, found, name = name.partition("/")
            if not found:
                return None
        return self.cuts[name]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on after `epoch`, or after some batches of the next."""

    subject: str
    """What is trained on what: a checkpoint of another subject is of no use. A digest."""
    epoch: int
    """Epochs done."""
    weights: Mapping[str, torch.Tensor]
    """The network's parameters and buffers by name, as they are now."""
    best_weights: Mapping[str, torch.Tensor]
    """The same after `best_epoch`."""
    best_epoch: int
    best_loss: float
    """Validation loss after `best_epoch`, in nats; infinite before the first epoch is done, when `best_epoch` is 0."""
    optimizer: Mapping[str, torch.Tensor]
    """The optimiser's memory: tensors by name."""
    midway: Midway | None = None
    """How far the run is in the epoch after `epoch`; None between two epochs."""
    cpu_s: float = 0.0
    """Processor time spent on it, where it has a limit."""
    shard: Shard | None = None
    """Which part of the tensors this is; None where each process always has all."""

    @property
    def place(self) -> tuple[int, int]:
        """How far the run is, to compare: epochs done, then batches of the next."""
        return self.epoch, self.midway.batches if self.midway else 0

    @property
    def is_large(self) -> bool:
        """Whether its tensors are too many to be there twice."""
        return sum(each.nbytes for each in self.tensors().values()) > STREAMED_BYTES

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name."""
        tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in self.weights.items()}
        tensors |= {f"{_BEST}{name}": tensor for name, tensor in self.best_weights.items()}
        tensors |= {f"{_OPTIMIZER}{name}": tensor for name, tensor in self.optimizer.items()}
        return tensors | ({_GENERATOR: self.midway.generator} if self.midway else {})

    def with_tensors(self, tensors: Mapping[str, torch.Tensor], shard: Shard | None) -> "Checkpoint":
        """Return the same with other tensors, named as `tensors` does."""
        midway = self.midway and replace(self.midway, generator=tensors[_GENERATOR])
        kept = {
            "weights": _below(tensors, _WEIGHTS),
            "best_weights": _below(tensors, _BEST),
            "optimizer": _below(tensors, _OPTIMIZER),
        }
        return replace(self, midway=midway, shard=shard, **kept)  # type: ignore[arg-type]  # each is of its own type


def to_bytes(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """Return the tensors as safetensors and the sidecar as JSON. Write the tensors first."""
    data = tensors_to_bytes(checkpoint.tensors())
    return data, _sidecar(checkpoint, sha256_digest(data))


def to_file(checkpoint: Checkpoint, path: Path) -> bytes:
    """Write the tensors into a file, without a copy of them, and return the sidecar: both as `to_bytes`."""
    safetensors.torch.save_file(dict(_apart(checkpoint.tensors())), path)
    with path.open("rb") as file:
        return _sidecar(checkpoint, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def _sidecar(checkpoint: Checkpoint, digest: str) -> bytes:
    midway = checkpoint.midway and {"batches": checkpoint.midway.batches, "loss": checkpoint.midway.loss}
    sidecar = {
        "format": FORMAT,
        "subject": checkpoint.subject,
        "epoch": checkpoint.epoch,
        "best_epoch": checkpoint.best_epoch,
        "best_loss": checkpoint.best_loss if checkpoint.best_epoch else None,
        "midway": midway,
        "tensors": digest,
    } | ({"cpu_s": checkpoint.cpu_s} if checkpoint.cpu_s else {})
    sidecar |= {"shard": asdict(checkpoint.shard)} if checkpoint.shard else {}
    return json.dumps(sidecar, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def from_bytes(data: bytes, sidecar: bytes) -> Checkpoint:
    """Read what `to_bytes` wrote. Raise `BrokenCheckpoint` when the two are not whole or do not belong together."""
    try:
        values = json.loads(sidecar)
        if values["format"] not in _READ:
            raise BrokenCheckpoint(f"checkpoint: expected one of the formats {_READ}, got {values['format']!r}")
        if values["tensors"] != sha256_digest(data):
            raise BrokenCheckpoint(f"checkpoint: expected tensors {values['tensors']}, got {sha256_digest(data)}")
        tensors = safetensors.torch.load(data)
        return Checkpoint(
            subject=str(values["subject"]),
            epoch=int(values["epoch"]),
            weights=_below(tensors, _WEIGHTS),
            best_weights=_below(tensors, _BEST),
            best_epoch=int(values["best_epoch"]),
            best_loss=math.inf if values["best_loss"] is None else float(values["best_loss"]),
            optimizer=_below(tensors, _OPTIMIZER),
            midway=_midway(values.get("midway"), tensors),
            cpu_s=float(values.get("cpu_s", 0.0)),
            shard=_shard(values.get("shard")),
        )
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise BrokenCheckpoint(
            f"checkpoint: expected tensors and a sidecar that can be read, got {type(error).__name__}: {error}"
        ) from error


def _midway(values: Mapping[str, Any] | None, tensors: Mapping[str, torch.Tensor]) -> Midway | None:
    return None if values is None else Midway(int(values["batches"]), float(values["loss"]), tensors[_GENERATOR])


def _shard(values: Mapping[str, Any] | None) -> Shard | None:
    if values is None:
        return None
    return Shard(values["rank"], values["size"], {name: Cut(**cut) for name, cut in values["cuts"].items()})


def tensors_to_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors as safetensors. The bytes depend on names and values alone."""
    return safetensors.torch.save(dict(_apart(tensors)))


def _apart(tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield tensors by name, in order.

    The format has no place for two names of one memory, such as the latest weights that are the best: the second is a
    copy, and so is a part of another.
    """
    seen = set[int]()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        memory = tensor.untyped_storage()
        if memory.data_ptr() in seen or memory.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(memory.data_ptr())
        yield name, tensor


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
