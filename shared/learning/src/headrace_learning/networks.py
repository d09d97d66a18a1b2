"""What every network has: parameters to count, and weights to keep."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class _Spread(Protocol):
    """A DTensor, told by its method: its module takes seconds to import."""

    def to_local(self) -> torch.Tensor:
        """Return this process's part."""


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_learned(module: nn.Module) -> int:
    """Return how many numbers of the module training changes."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process has of a tensor: of one that is spread over several its part, else itself."""
    part: torch.Tensor = tensor.to_local() if isinstance(tensor, _Spread) else tensor
    return part


def learned_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what `weights_of` does, without the parameters that training leaves as they are."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    held = module.state_dict()
    return {name: local(held[name].detach()).cpu().clone().contiguous() for name in held if name not in frozen}


@torch.no_grad()
def load_learned(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Take up what `learned_of` returned of a module of the same layers, spread in the same way."""
    held = module.state_dict()
    if any(isinstance(tensor, _Spread) for tensor in held.values()):
        for name, tensor in tensors.items():
            local(held[name]).copy_(tensor)
        return
    module.load_state_dict({**held, **tensors})


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of everything that the module has learnt or been given, by name, contiguous and on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
