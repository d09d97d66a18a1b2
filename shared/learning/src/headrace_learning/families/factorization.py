"""A factorisation machine over all features side by side: which values go well together is learned of every pair.

Rendle, "Factorization Machines" (2010), in the form of He and Chua, "Neural Factorization Machines for Sparse
Predictive Analytics" (2017), without hidden layers: pairs are summed in each factor, and the answer is linear in these
sums, so that the factors serve all outputs. A pair that no training row has, such as a visitor and an offer, follows
from the pairs that either has with others.
"""

from collections.abc import Sequence

import numpy as np
import torch
from headrace_data.spec.networks import FactorizationMachine
from torch import nn

from headrace_learning.families.network import NetworkFamily
from headrace_learning.writer import Writer

_FAR = 16.0
"""How far from 0 a value is in pairs at most: of an outlier's square float32 would keep no digits of all others."""


class Pairs(nn.Module):
    """Each factor's sum over pairs of values, and a linear one: rows [batch, width] -> [batch, factors] float32."""

    def __init__(self, width: int, factors: int) -> None:
        super().__init__()
        self.outputs = factors
        # One layer: where another version's columns are taken for a row's inputs, both are.
        self.both = nn.Linear(width, 2 * factors)
        nn.init.normal_(self.both.weight, std=min(0.1, width**-0.5))
        nn.init.zeros_(self.both.bias)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the sums: of all pairs it is half of what the square of a sum is beyond the sum of squares."""
        weights = self.both.weight[: self.outputs].T
        near = rows.clamp(-_FAR, _FAR)
        if not self.training:
            # Both squares are far larger than what is between them where there are many values: float32 would round
            # it away. Learning can live with that, a graph that is compared with another runtime cannot.
            weights, near = weights.double(), near.double()
        pairs = ((near @ weights).square() - near.square() @ weights.square()) / 2
        linear: torch.Tensor = self.both(rows)[:, self.outputs :]
        return pairs.to(linear.dtype) + linear

    def write(self, writer: Writer, value: str) -> str:
        """Write the same."""
        weights, bias = (each.detach().cpu().numpy() for each in (self.both.weight, self.both.bias))
        factors, linear = np.split(weights, 2)
        ends = [writer.constant(f"pairs.{name}", np.float32(end)) for name, end in (("low", -_FAR), ("high", _FAR))]
        near = writer.cast(writer.node("Clip", value, *ends), np.float32, np.float64)
        exact = factors.T.astype(np.float64)
        sums = writer.node("MatMul", near, writer.constant("pairs.factors", np.ascontiguousarray(exact)))
        squares = writer.node("MatMul", writer.node("Mul", near, near), writer.constant("pairs.squares", exact**2))
        pairs = writer.node("Sub", writer.node("Mul", sums, sums), squares)
        half = writer.node("Mul", pairs, writer.constant("pairs.half", np.float64(0.5)))
        plain = writer.node(
            "Gemm",
            value,
            writer.constant("pairs.linear", linear),
            writer.constant("pairs.bias", np.split(bias, 2)[1]),
            transB=1,
        )
        return writer.node("Add", writer.cast(half, np.float64, np.float32), plain)


def _build(section: FactorizationMachine, shape: Sequence[int], outputs: int) -> nn.Module:
    return nn.Sequential(Pairs(shape[0], section.factors), nn.Linear(section.factors, outputs))


FAMILY = NetworkFamily(_build)
