"""How large a network becomes, counted from its spec before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from headrace_data.spec.draft import Draft, Finding, built
from headrace_data.spec.networks import IMAGE_KINDS, CnnNetwork, FactorizationMachine, MlpNetwork, ResidualNetwork

MAX_PARAMETERS: Final = 2_000_000_000
"""Most parameters of a network: 8 GB, which training takes several times over."""
SMALLEST_POOLED_SIDE: Final = 4
"""Least height and width in values that a pooling of a convolutional network halves."""

Counted = MlpNetwork | CnnNetwork | ResidualNetwork | FactorizationMachine
_COUNTED: Final[Mapping[str, type[Counted]]] = {
    "mlp": MlpNetwork,
    "cnn": CnnNetwork,
    "residual": ResidualNetwork,
    "factorization": FactorizationMachine,
}
"""The kinds whose layers are counted here."""


@dataclass(frozen=True)
class Block:
    """Two convolutions of a residual network."""

    before: int
    """Channels that come in."""
    after: int
    stride: int
    height: int
    """What comes out."""
    width: int

    @property
    def keeps_shape(self) -> bool:
        """Whether what comes in can be added to what the convolutions give as it is."""
        return self.before == self.after and self.stride == 1


def residual_blocks(network: ResidualNetwork, shape: Sequence[int]) -> Iterator[Block]:
    """Yield the blocks of a residual network behind its first convolution; the shape is [channels, height, width]."""
    _, height, width = shape
    before = network.channels[0]
    for stage, after in enumerate(network.channels):
        for place in range(network.blocks):
            halved = stage > 0 and place == 0 and min(height, width) >= SMALLEST_POOLED_SIDE
            if halved:
                height, width = (height + 1) // 2, (width + 1) // 2
            yield Block(before, after, 2 if halved else 1, height, width)
            before = after


def count_parameters(network: Counted, shape: Sequence[int], outputs: int) -> int:
    """Return how many numbers a network learns, whose rows have this shape and which answers with so many outputs.

    The shape is [values] for tables, and [channels, height, width] for those of images.
    """
    if isinstance(network, ResidualNetwork):
        first, last = network.channels[0], network.channels[-1]
        total = (9 * shape[0] + 2) * first + (last + 1) * outputs
        for block in residual_blocks(network, shape):
            total += (9 * block.before + 2 + 9 * block.after + 2) * block.after
            total += 0 if block.keeps_shape else (block.before + 2) * block.after
        return total
    if isinstance(network, FactorizationMachine):
        return 2 * network.factors * (shape[0] + 1) + (network.factors + 1) * outputs
    dense = sum((before + 1) * after for before, after in pairwise(_dense_widths(network, shape, outputs)))
    if isinstance(network, MlpNetwork):
        return dense
    return dense + sum((9 * before + 1) * after for before, after in pairwise((shape[0], *network.channels)))


def row_values(network: Counted, shape: Sequence[int], outputs: int) -> list[int]:
    """Return how many values each layer gives for one row, the input first."""
    if isinstance(network, ResidualNetwork):
        sizes = [shape[0] * shape[1] * shape[2], network.channels[0] * shape[1] * shape[2]]
        # Convolutions' and what is added to theirs; what normalises and rectifies is not counted.
        sizes += [block.after * block.height * block.width for block in residual_blocks(network, shape) for _ in "123"]
        return [*sizes, network.channels[-1], outputs]
    if isinstance(network, FactorizationMachine):
        # The row within its bounds and its squares; sums of both, and the linear ones; what they make.
        return [*[shape[0]] * 3, network.factors, 3 * network.factors, network.factors, outputs]
    if isinstance(network, MlpNetwork):
        return _dense_widths(network, shape, outputs)
    _, height, width = shape
    values = [shape[0] * height * width]
    for channels in network.channels:
        # The convolution's; what is pooled is smaller.
        values.append(channels * height * width)
        height, width = _pooled(height, width)
    return values + _dense_widths(network, shape, outputs)


def _dense_widths(network: MlpNetwork | CnnNetwork, shape: Sequence[int], outputs: int) -> list[int]:
    """Return the widths of the fully connected part, from its input to the outputs."""
    if isinstance(network, MlpNetwork):
        return [shape[0], *network.hidden, outputs]
    _, height, width = shape
    for _ in network.channels:
        height, width = _pooled(height, width)
    return [network.channels[-1] * height * width, *network.hidden, outputs]


def _pooled(height: int, width: int) -> tuple[int, int]:
    return (height // 2, width // 2) if min(height, width) >= SMALLEST_POOLED_SIDE else (height, width)


def network_fits_a_graph(draft: Draft) -> Iterator[Finding]:
    """Demand a network that a version can hold.

    What is counted is a lower bound: a text counts as one value, and a classification as one output. For documents
    only: an older spec stays readable, whatever it asks for.
    """
    kind = draft.at("train", "network", "kind")
    features = [field for field in draft.fields.values() if field.role == "feature"]
    if not draft.complete or not features or not isinstance(kind, str) or kind not in _COUNTED:
        return
    network = built(_COUNTED[kind], draft.at("train", "network"))
    shape: tuple[int, ...] = (sum(field.size for field in features),)
    if kind in IMAGE_KINDS:
        image = features[0].shape
        if len(image) not in (2, 3):
            return
        shape = image if len(image) == 3 else (1, *image)
    if network is None:
        return
    least = count_parameters(network, shape, 1)
    if least > MAX_PARAMETERS:
        yield (
            ("train", "network"),
            f"expected at most {MAX_PARAMETERS:,} parameters, got at least {least:,}; make its layers smaller",
        )
