"""A model that was made elsewhere: from Keras one that learns on, from ONNX one that answers as it came.

It is a version like any other: made again for each dataset, measured, gated, released and rolled back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import torch
from headrace_data.spec import ImportedModel, Train
from headrace_data.tasks import Mean

from headrace_learning import networks
from headrace_learning.errors import NotLearnable
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.families.network import flat_shape
from headrace_learning.features import Feature
from headrace_learning.importing.core import Core
from headrace_learning.importing.fit import Imported, fit
from headrace_learning.importing.keras_network import read_keras
from headrace_learning.importing.onnx_files import read_onnx
from headrace_learning.served import Served
from headrace_learning.training.loop import Outcome
from headrace_learning.training.objectives import Objective
from headrace_learning.training.private import training_of
from headrace_learning.training.rows import MEASURED_AT_ONCE

_NUMBER_BYTES = 4
_COPIES = {"keras": 10, "onnx": 4}
"""What reading takes at least, in sizes of the file: of Keras with gradients and checkpoints."""


def _keras(data: bytes, section: ImportedModel, seed: int) -> Core:
    return read_keras(data, section.frozen, seed)


def _onnx(data: bytes, section: ImportedModel, _seed: int) -> Core:
    if section.frozen:
        raise NotLearnable("train.network.frozen: expected none for onnx, of which nothing is trained, got some")
    return read_onnx(data)


_READERS: Final[Mapping[str, Callable[[bytes, ImportedModel, int], Core]]] = {"keras": _keras, "onnx": _onnx}
"""What reads each format of the spec."""


def read(data: bytes, section: ImportedModel, seed: int) -> Core:
    """Read a file as a section says. Raise `NotLearnable` for one that cannot be served."""
    return _READERS[section.format](data, section, seed)


@dataclass(frozen=True)
class AsItCame(Fitted):
    """A model of which nothing was trained."""

    data: bytes = b""
    """The file."""

    def weights(self, _model: Served) -> bytes:
        """Return the file: it is kept once, whatever versions are made of it."""
        return self.data


class ImportedFamily(Family):
    """Reads a file by its digest, and trains on what of it can learn."""

    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return the shape of all features side by side, or that of the one there is."""
        flat = flat_shape(features)
        alone = features[0].shape if len(features) == 1 else ()
        return alone if prod(alone) == flat[0] and alone else flat

    def parameters(self, section: ImportedModel, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers the file has room for."""
        return max(section.size_bytes // _NUMBER_BYTES, 1)

    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that rows and the file take at least; how large layers' answers are nobody knows yet."""
        section: Any = train.network
        return held_bytes + _COPIES[section.format] * int(section.size_bytes)

    def fit(self, section: ImportedModel, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Train on from the file's weights or the newest checkpoint, or measure what has nothing to learn."""
        data = run.artifacts.read(section.digest, section.size_bytes)
        core = read(data, section, run.train.seed)
        network = fit(core, section, objective, run.shape, run.classes)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            outcome = _measured(network, rows, objective, run)
            return AsItCame(
                network, outcome, self.parameters(section, run.shape, run.outputs), core.libraries, data=data
            )
        try:
            training = training_of(run.train)(
                network, run.train, objective, rows.train, rows.validation, run.subject, run.checkpoints, run.progress
            )
            outcome = training.run()
        except RuntimeError as error:  # PyTorch's, of an operation that has no gradient or is not the same each time
            raise NotLearnable(f"{core.subject}: expected layers that can be trained on, got {error}") from error
        return Fitted(network, outcome, networks.count_parameters(network), core.libraries)


def _measured(network: Imported, rows: Sources, objective: Objective, run: Run) -> Outcome:
    """Return what a training of no epoch ends with, and tell it."""
    loss, measures = Mean(), dict[str, Mean]()
    network.eval()
    with torch.no_grad():
        for part in rows.validation.chunks():
            outputs = torch.cat([network(some) for some in torch.split(part.inputs, MEASURED_AT_ONCE)])
            loss.add(float(objective.loss(outputs, part.targets)), objective.weight(part.targets))
            for name, value in objective.measure(outputs, part.targets).items():
                measures.setdefault(name, Mean()).add(value, len(part))
    told = objective.told({name: mean.value for name, mean in measures.items()})
    metrics = {"validation_loss": loss.value, **{f"validation_{name}": value for name, value in told.items()}}
    run.progress.progress(1, 1, metrics, 0.0)
    return Outcome(0, 0, loss.value)


FAMILY = ImportedFamily()
