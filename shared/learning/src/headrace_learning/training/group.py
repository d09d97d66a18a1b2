"""The processes that train one network together: which rows each learns from, and what they agree on.

Each reads every row and learns from its part of each batch, in the order that one process would see. Gradients are
added up, each row counting as in one process: Li et al., "PyTorch Distributed: Experiences on Accelerating Data
Parallel Training" (VLDB 2020), section 2. What travels between them are tensors alone: nothing that comes is unpickled.
"""

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
from headrace_data.spec import Compute
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headrace_learning.errors import NotLearnable

SILENCE: Final = timedelta(minutes=30)
"""For how long a process waits for the others. Who is killed is missed at once: its connections close."""
LOOPBACK: Final = "127.0.0.1"
"""Where processes of one machine meet."""
_LOOPBACKS: Final = ("lo", "lo0")
_ADDRESS_OF: Final = 0x8915
"""SIOCGIFADDR of netdevice(7)."""
_ASKED_EVERY_S: Final = 0.5
_CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """The rows of a batch that one process learns from."""

    rows: slice
    is_empty: bool
    """Whether there are none: the slice has one row then, which counts nothing, so that all take the same steps."""


@dataclass(frozen=True)
class Group:
    """Processes that train one network, as one of them sees it: one alone unless told otherwise."""

    rank: int = 0
    """Which of them this is, from 0."""
    size: int = 1
    """How many there are."""
    device: torch.device = _CPU
    """Where tensors are that travel between them."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that keeps checkpoints and reports."""
        return self.rank == 0

    def part(self, count: int) -> Part:
        """Return which of so many rows, at least one, are this one's: next to each other, and as many as the others'.

        Some have one more where they cannot be shared evenly.
        """
        first, end = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return Part(slice(0, 1), is_empty=True) if first == end else Part(slice(first, end), is_empty=False)

    def add_up(self, tensor: torch.Tensor) -> None:
        """Make a tensor the sum of those of all, in place; the same for each to the bit."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def gathered(self, values: Sequence[float]) -> list[list[float]]:
        """Return the numbers of each process, in order of rank. All give as many."""
        if self.size == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(found, own)
        return [each.tolist() for each in found]

    def sum(self, value: float) -> float:
        """Return the sum of each process's number: added in order of rank, so that all get the same."""
        return value if self.size == 1 else sum(held for (held,) in self.gathered([value]))

    def leaders(self, value: float) -> float:
        """Return the number of the process that leads."""
        return self.gathered([value])[0][0]

    def stacked(self, state: torch.Tensor) -> torch.Tensor:
        """Return the bytes of each process, [processes, bytes] uint8; of one alone as they are, [bytes]."""
        if self.size == 1:
            return state
        own = state.to(self.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(found, own)
        return torch.stack(found).cpu()

    def own(self, states: torch.Tensor) -> torch.Tensor | None:
        """Return what `stacked` had of this rank, be it of a group of another size; None where it had nothing."""
        held = states if states.dim() > 1 else states[None]
        return held[self.rank] if self.rank < len(held) else None

    def require_same(self, what: str, values: Sequence[float]) -> None:
        """Raise RuntimeError unless all processes have the same numbers: another attempt may."""
        held = self.gathered(values)
        if any(each != held[0] for each in held):
            raise RuntimeError(f"{what}: expected the same in each of {self.size} processes, got {held}")


class Questions:
    """When processes ask each other in the midst of an epoch: every half second or so, as a question takes a while."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._steps, self._wait = 0, 1
        self._since_s = time.monotonic()

    def now(self) -> bool:
        """Return, after each step, whether to ask: the same in all processes."""
        if self._group.size == 1:
            return True
        self._steps += 1
        if self._steps < self._wait:
            return False
        seconds = max(time.monotonic() - self._since_s, 1e-6)
        # No more than twice as many at once: steps may become slower.
        wanted = min(self._steps * _ASKED_EVERY_S / seconds, 2.0 * self._steps)
        self._wait = max(1, int(self._group.leaders(wanted)))
        self._steps, self._since_s = 0, time.monotonic()
        return True


def group_of(compute: Compute | None) -> Group:
    """Return the processes that a spec asks for, as far as this one is among them: else it is alone."""
    if compute is None or compute.processes == 1 or not distributed.is_initialized():
        return Group()
    device = torch.device("cuda" if distributed.get_backend() == distributed.Backend.NCCL else "cpu")
    return Group(distributed.get_rank(), distributed.get_world_size(), device)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Be one of the processes that torchrun's agent has started, within: it tells which by the environment."""
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Otherwise they listen at the address that the machine's name has, which others may not reach, or anybody may.
    if interface := _interface(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])):
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, interface)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=SILENCE)
    yield
    # Behind a fault the connections stay until the process ends, or others could say before it does that it is gone.
    distributed.destroy_process_group()


def _interface(host: str, port: int) -> str:
    """Return the interface by which this machine reaches a host; empty where the system does not tell."""
    interfaces = [name for _, name in socket.if_nameindex()]
    if host == LOOPBACK:
        return next(name for name in interfaces if name in _LOOPBACKS)
    if sys.platform != "linux":
        return ""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((host, port))  # of a datagram: nothing is sent
        own = socket.inet_aton(asking.getsockname()[0])
        for name in interfaces:
            with suppress(OSError):  # one without an address
                if fcntl.ioctl(asking, _ADDRESS_OF, struct.pack("256s", name.encode()))[20:24] == own:
                    return name
    return ""


def require_rows_apart(network: nn.Module, group: Group) -> None:
    """Raise `NotLearnable` for a network whose answer to a row hangs on the other rows, where these are elsewhere."""
    if group.size > 1 and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise NotLearnable(
            "train.compute.processes: expected a network without batch normalisation, whose means are of a whole batch "
            f"while each of {group.size} processes has a part, got one; leave processes out, or normalise by layer"
        )
