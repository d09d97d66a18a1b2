"""The device that a network is trained on, and the precision of its layers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from headrace_data.spec import Compute
from torch import nn
from torch.nn import functional

from headrace_learning.errors import NotLearnable
from headrace_learning.training.group import group_of
from headrace_learning.training.rows import Rows

CPU = torch.device("cpu")
_PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """What a training computes with."""

    device: torch.device = CPU
    precision: torch.dtype = torch.float32
    compile: bool = False
    """Whether what learns is compiled."""
    recompute: bool = False
    """Whether inner values of blocks are computed anew for the gradients."""

    def compiled(self, network: nn.Module) -> nn.Module:
        """Return what answers in the place of a network while it learns, with the same parameters."""
        if not self.compile:
            return network
        answering: Any = torch.compile(network)
        return cast(nn.Module, answering)

    def moved(self, rows: Rows) -> Rows:
        """Return rows on the device."""
        if self.device == CPU:
            return rows
        return Rows(rows.inputs.to(self.device), rows.targets.to(self.device))

    def answers(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Return what a network answers while it learns: computed in the precision, float32."""
        if self.precision == torch.float32:
            return self._answered(network, inputs)
        with torch.autocast(self.device.type, dtype=self.precision):
            outputs = self._answered(network, inputs)
        return outputs.to(torch.float32)

    def _answered(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        if not self.compile:
            outputs: torch.Tensor = network(inputs)
            return outputs
        from torch._dynamo.exc import TorchDynamoException  # it imports the compiler, which takes seconds

        try:
            outputs = network(inputs)
        except TorchDynamoException as error:
            raise NotLearnable(
                f"train.compute.compile: expected a network that torch.compile takes, got {_first_line(error)}"
            ) from error
        return outputs

    def generator_state(self) -> torch.Tensor:
        """Return the state of PyTorch's global generators, the CPU's first, [bytes] uint8."""
        state = torch.get_rng_state()
        return state if self.device == CPU else torch.cat([state, torch.cuda.get_rng_state(self.device)])

    def restore_generators(self, state: torch.Tensor) -> None:
        """Take up what `generator_state` returned."""
        size = len(torch.get_rng_state())
        # Copied, because PyTorch reads the memory of a part of a tensor from the whole's beginning on.
        torch.set_rng_state(state[:size].clone())
        # An attempt without a GPU kept none of one: the epoch's seed has set it.
        if self.device != CPU and len(state) > size:
            torch.cuda.set_rng_state(state[size:].clone(), self.device)


def machine_of(compute: Compute | None) -> Machine:
    """Return what a spec asks for: the CPU and float32 where it says nothing.

    Raise `NotLearnable` without its GPU, or a compiler.
    """
    if compute is None:
        return Machine()
    fault = "none is asked for" if compute.device == "cpu" else fault_of_gpu()
    if compute.device == "cuda" and fault:
        raise NotLearnable(
            f"train.compute.device: expected a GPU that PyTorch can use, got none ({fault}): give this trainer one, "
            "with PyTorch as TORCH=cuda installs it, or write auto or cpu"
        )
    device = CPU if fault else torch.device("cuda")
    if compute.compile and (fault := _fault_of_compiler(device)):
        raise NotLearnable(
            "train.compute.compile: expected what torch.compile needs, a C++ compiler for the CPU and Triton for a "
            f"GPU, got an error of a network of one layer ({fault}); leave compile out, or install it"
        )
    return Machine(device, _PRECISIONS[compute.precision], compute.compile, compute.recompute)


def fault_of_gpu() -> str:
    """Return why nothing can be computed on a GPU, empty when it can."""
    if not torch.cuda.is_available():
        return "PyTorch finds none"
    libraries = Path(torch.__file__).parents[1] / "nvidia" / "cudnn" / "lib"
    # Looked for and not tried: cuDNN ends the process where its parts are missing.
    if libraries.is_dir() and not any(libraries.glob("libcudnn_ops*")):
        return "PyTorch was installed without what computes on it"
    try:
        ones = torch.ones(1, 1, 4, 4, device="cuda")
        float(functional.conv2d(ones @ ones, ones))
    except (RuntimeError, AssertionError, OSError) as error:
        return str(error).partition("\n")[0]
    return ""


def _fault_of_compiler(device: torch.device) -> str:
    """Return why nothing can be compiled for a device, empty when it can."""
    try:
        layer: Any = torch.compile(nn.Linear(2, 2).to(device))
        torch.autograd.backward(layer(torch.ones(3, 2, device=device)).sum())
    except Exception as error:  # whatever compilers, their parts and the disk that they write on raise
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def threads_of(compute: Compute | None, cores: int) -> int:
    """Return how many threads a spec asks for, of so many cores: in each of its processes, which share them."""
    if compute is None:
        return 1
    cores = max(cores // processes_of(compute, cores), 1)
    return cores if compute.threads == "auto" else min(compute.threads, cores)


def processes_of(compute: Compute | None, cores: int) -> int:
    """Return how many processes of a spec are on this machine: each has a core of so many, or a GPU of those there.

    One of a group knows it from torchrun's agent: others may be on other machines.
    """
    if compute is None or compute.processes == 1:
        return 1
    if here := os.environ.get("LOCAL_WORLD_SIZE"):
        return int(here)
    gpus = 0 if compute.device == "cpu" else torch.cuda.device_count()
    return min(compute.processes, gpus or cores)


def told(compute: Compute) -> dict[str, Any]:
    """Return what a version says of the machine that it was trained on: this one."""
    machine = machine_of(compute)
    name = "cpu" if machine.device == CPU else torch.cuda.get_device_name(machine.device)
    held = {**compute.plain(), "device": name, "threads": torch.get_num_threads()}
    return held if compute.processes == 1 else {**held, "processes": group_of(compute).size}
