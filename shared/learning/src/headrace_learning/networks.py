"""What every network has: parameters to count, and weights to keep."""

from collections.abc import Mapping

import torch
from torch import nn


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_learned(module: nn.Module) -> int:
    """Return how many numbers of the module training changes."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def learned_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what `weights_of` does, without the parameters that training leaves as they are."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    held = module.state_dict()
    return {name: held[name].detach().cpu().clone().contiguous() for name in held if name not in frozen}


def load_learned(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Take up what `learned_of` returned of a module of the same layers."""
    module.load_state_dict({**module.state_dict(), **tensors})


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of everything that the module has learnt or been given, by name, contiguous and on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
