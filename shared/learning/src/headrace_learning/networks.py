"""What every network has: parameters to count, and weights to keep."""

import torch
from torch import nn


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of everything that the module has learnt or been given, by name, contiguous and on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
