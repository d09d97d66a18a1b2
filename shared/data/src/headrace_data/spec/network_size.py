"""How large a network becomes, counted from its spec before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from headrace_data.spec.draft import Draft, Finding, built
from headrace_data.spec.networks import CnnNetwork, MlpNetwork

MAX_PARAMETERS: Final = 500_000_000
"""Most parameters of a network: a version is one ONNX graph of less than 2 GiB, and a parameter takes 4 bytes."""
SMALLEST_POOLED_SIDE: Final = 4
"""Least height and width in values that a pooling of a convolutional network halves."""


_COUNTED: Final[Mapping[str, type[MlpNetwork | CnnNetwork]]] = {"mlp": MlpNetwork, "cnn": CnnNetwork}
"""The kinds whose layers are counted here."""


def count_parameters(network: MlpNetwork | CnnNetwork, shape: Sequence[int], outputs: int) -> int:
    """Return how many numbers a network learns, whose rows have this shape and which answers with so many outputs.

    The shape is [values] for mlp, and [channels, height, width] for cnn.
    """
    dense = sum((before + 1) * after for before, after in pairwise(_dense_widths(network, shape, outputs)))
    if isinstance(network, MlpNetwork):
        return dense
    return dense + sum((9 * before + 1) * after for before, after in pairwise((shape[0], *network.channels)))


def row_values(network: MlpNetwork | CnnNetwork, shape: Sequence[int], outputs: int) -> list[int]:
    """Return how many values each layer gives for one row, the input first."""
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
    if kind == "cnn":
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
