"""The scale of a loss whose gradients are computed in 16 bits of few exponents.

Micikevicius et al., "Mixed Precision Training" (ICLR 2018), section 3.2, with the constants of `torch.amp.GradScaler`:
gradients that float16 would round to zero are kept by a large factor, which is found while training.
"""

from collections.abc import Mapping
from typing import Final

import torch

from headrace_learning.training.optimizers import Optimizer

_START: Final = 2.0**16
_STEPS: Final = 2000
"""Steps with finite gradients after which the scale is doubled."""
_NAME: Final = "scale"


class LossScale:
    """Multiplies losses, divides gradients, and halves itself where these are no finite numbers."""

    def __init__(self, *, needed: bool) -> None:
        """`needed` says whether there is any: without it losses and gradients stay as they are."""
        self._needed = needed
        self._state = torch.tensor([_START, 0.0], dtype=torch.float64)
        """The scale, and steps since it last changed."""

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """Return a loss as it is to be derived."""
        return loss * float(self._state[0]) if self._needed else loss

    def unscale(self, optimizer: Optimizer) -> bool:
        """Give the gradients their own size. Return whether they are to be learned from: all are finite."""
        if not self._needed:
            return True
        if not optimizer.divide(float(self._state[0])):
            self._change(0.5)
            return False
        self._state[1] += 1
        if self._state[1] >= _STEPS:
            self._change(2.0)
        return True

    def _change(self, factor: float) -> None:
        self._state[0].mul_(factor).clamp_(min=1.0)
        self._state[1] = 0

    def memory(self) -> Mapping[str, torch.Tensor]:
        """Return a copy of the state; nothing where none is needed."""
        return {_NAME: self._state.clone()} if self._needed else {}

    def restore(self, memory: Mapping[str, torch.Tensor]) -> None:
        """Take up what `memory` returned."""
        if self._needed and _NAME in memory:
            self._state.copy_(memory[_NAME])
