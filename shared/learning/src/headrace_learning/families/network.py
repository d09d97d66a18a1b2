"""Families that are networks of PyTorch's: what they share is everything but the layers."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from headrace_data.spec import Train
from headrace_data.spec.network_size import count_parameters, row_values
from torch import nn

from headrace_learning import networks
from headrace_learning.errors import NotLearnable
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.features import Feature
from headrace_learning.training.checkpoint import STREAMED_BYTES
from headrace_learning.training.objectives import Objective
from headrace_learning.training.optimizers import remembered_vectors
from headrace_learning.training.private import gradient_bytes, training_of
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.rows import MEASURED_AT_ONCE
from headrace_learning.training.transfer import begin

_NUMBER_BYTES = 4


def flat_shape(features: Sequence[Feature]) -> tuple[int, ...]:
    """Return the shape of all features side by side."""
    return (sum(feature.fitted.width for feature in features),)


def image_shape(features: Sequence[Feature]) -> tuple[int, int, int]:
    """Return channels, height and width of the one feature that a convolutional network looks at."""
    shapes = [list(feature.shape) for feature in features]
    match shapes:
        case [[height, width]]:
            return (1, height, width)
        case [[channels, height, width]]:
            return (channels, height, width)
    raise NotLearnable(
        "train.network: expected exactly one feature, of shape [height, width] or [channels, height, width]; "
        f"got shapes {shapes}"
    )


def vectors_bytes(train: Train, parameters: int) -> int:
    """Return the memory of what goes with so many parameters.

    For each: weight, gradient, the best epoch's weight and the optimiser's memory; a copy of weight and memory when a
    checkpoint is made, and where that is no file a copy of these and the best weight in bytes, twice. A version's
    weights are copied, and twice in bytes, when the rest is gone.
    """
    remembered = remembered_vectors(train.optimizer)
    kept = 2 + remembered
    is_file = _NUMBER_BYTES * kept * parameters > STREAMED_BYTES
    copies = (3 + remembered) + (1 + remembered) + (0 if is_file else 2 * kept)
    return _NUMBER_BYTES * copies * parameters


def learn(network: nn.Module, rows: Sources, objective: Objective, run: Run) -> Fitted:
    """Train a network with the seed's weights from these, another version's or the newest checkpoint's."""
    begun = begin(network, run.origin, run.train) if run.origin else None
    # What is said of layers is said of those of another version.
    train = run.train if begun else run.train.model_copy(update={"freeze": (), "rates": {}})
    outcome = training_of(train)(
        network, train, objective, rows.train, rows.validation, run.subject, run.checkpoints, run.progress
    ).run()
    network.zero_grad(set_to_none=True)  # gradients take as much memory as weights
    return Fitted(network, outcome, networks.count_parameters(network), begun=begun)


class NetworkFamily(Family):
    """Trains the network that `build` makes, epoch by epoch."""

    def __init__(
        self,
        build: Callable[[Any, Sequence[int], int], nn.Module],
        shape: Callable[[Sequence[Feature]], tuple[int, ...]] = flat_shape,
    ) -> None:
        """`build` takes the spec's section, the shape of a prepared row and the number of outputs.

        Weights come from PyTorch's global generator. `shape` is `Family.input_shape`.
        """
        self.build = build
        self._shape = shape

    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return the shape of one prepared row."""
        return self._shape(features)

    def parameters(self, section: Any, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers the network learns."""
        return count_parameters(section, shape, outputs)

    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that training takes at least.

        Counted are the prepared rows that are held, what a batch leaves in the layers, and what goes with parameters.
        """
        section: Any = train.network
        values = row_values(section, shape, outputs)
        training, validation = rows
        learning = min(train.batch_size, training) * sum(values)
        measuring = min(MEASURED_AT_ONCE, validation) * max((one + other for one, other in pairwise(values)), default=0)
        parameters = self.parameters(section, shape, outputs)
        vectors = vectors_bytes(train, parameters) + gradient_bytes(train, parameters)
        return held_bytes + vectors + _NUMBER_BYTES * max(learning, measuring)

    def fit(self, section: Any, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Train from the seed's weights, another version's or the newest checkpoint's."""
        seed_weights(run.train.seed)
        network = self.build(section, run.shape, run.outputs)
        return learn(network, rows, objective, run)
