"""The device that a network is trained on, and the precision of its layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from headrace_data.spec import Compute
from torch import nn
from torch.nn import functional

from headrace_learning.errors import NotLearnable
from headrace_learning.training.rows import Rows

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Machine:
    """What a training computes with."""

    device: torch.device = CPU
    precision: torch.dtype = torch.float32

    def moved(self, rows: Rows) -> Rows:
        """Return rows on the device."""
        if self.device == CPU:
            return rows
        return Rows(rows.inputs.to(self.device), rows.targets.to(self.device))

    def answers(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Return what a network answers while it learns: computed in the precision, float32."""
        if self.precision == torch.float32:
            outputs: torch.Tensor = network(inputs)
            return outputs
        with torch.autocast(self.device.type, dtype=self.precision):
            outputs = network(inputs)
        return outputs.to(torch.float32)

    def generator_state(self) -> torch.Tensor:
        """Return the state of PyTorch's global generators, the CPU's first, [bytes] uint8."""
        state = torch.get_rng_state()
        return state if self.device == CPU else torch.cat([state, torch.cuda.get_rng_state(self.device)])

    def restore_generators(self, state: torch.Tensor) -> None:
        """Take up what `generator_state` returned."""
        size = len(torch.get_rng_state())
        torch.set_rng_state(state[:size])
        # An attempt without a GPU kept none of one: the epoch's seed has set it.
        if self.device != CPU and len(state) > size:
            torch.cuda.set_rng_state(state[size:], self.device)


def machine_of(compute: Compute | None) -> Machine:
    """Return what a spec asks for: the CPU and float32 where it says nothing. Raise `NotLearnable` without its GPU."""
    if compute is None:
        return Machine()
    fault = "none is asked for" if compute.device == "cpu" else _fault_of_gpu()
    if compute.device == "cuda" and fault:
        raise NotLearnable(
            f"train.compute.device: expected a GPU that PyTorch can use, got none ({fault}): give this trainer one, "
            "with PyTorch as TORCH=cuda installs it, or write auto or cpu"
        )
    device = CPU if fault else torch.device("cuda")
    return Machine(device, torch.bfloat16 if compute.precision == "bf16" else torch.float32)


def _fault_of_gpu() -> str:
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


def threads_of(compute: Compute | None, cores: int) -> int:
    """Return how many threads a spec asks for, of so many cores."""
    if compute is None:
        return 1
    return cores if compute.threads == "auto" else min(compute.threads, cores)


def told(compute: Compute) -> dict[str, Any]:
    """Return what a version says of the machine that it was trained on: this one."""
    machine = machine_of(compute)
    name = "cpu" if machine.device == CPU else torch.cuda.get_device_name(machine.device)
    return {**compute.plain(), "device": name, "threads": torch.get_num_threads()}
