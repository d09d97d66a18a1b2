"""Low-rank differences of a network's matrices, by peft: Hu et al., "LoRA", ICLR 2022."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from headrace_learning.libraries import library


def adapted(network: nn.Module, rank: int, names: Sequence[str], extra: str = "encoder") -> nn.Module:
    """Return a network that learns a difference of each linear layer of these names, and nothing else."""
    peft: Any = library("peft", extra)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(names))
    with warnings.catch_warnings():
        # It looks at parts of transformers that are to be renamed.
        warnings.simplefilter("ignore", FutureWarning)
        made: nn.Module = peft.get_peft_model(network, config)
    return made


def merged(network: Any) -> nn.Module:
    """Return the network with the differences added to its weights."""
    for name, parameter in network.named_parameters():
        if name.endswith("base_layer.weight"):
            # The differences are added in place, and the weights of others may be those of the next run.
            parameter.data = parameter.data.clone()
    made: nn.Module = network.merge_and_unload()
    return made
