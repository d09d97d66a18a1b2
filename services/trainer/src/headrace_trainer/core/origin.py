"""The version that a run begins from, as the registry named it when the run was planned."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.torch
import torch
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline, named_version
from headrace_data.tasks.quantile import OrderedLabels
from headrace_data.tasks.regression import Moments
from headrace_learning.heads.quantile import start_of
from headrace_learning.training.transfer import Names, Origin, Scales, input_names

from headrace_trainer.errors import WrongOrigin

_NETWORK = "network."
"""What stands before the names of a network's tensors in a version's weights."""


@dataclass(frozen=True)
class Beginning:
    """The version that a run begins from."""

    version_id: str
    weights_digest: str
    weights: bytes
    dataset: Manifest
    """What it learned from."""

    def origin(self, dataset: Manifest, *, classes: bool, labels: object = None) -> Origin:
        """Return what a network takes of it that learns from a dataset. `classes`: whether its answers are classes.

        `labels` are the `Moments` of the dataset's where a number is answered.

        Raises WrongOrigin where its weights are none of a network.
        """
        try:
            tensors = safetensors.torch.load(self.weights)
        except safetensors.SafetensorError as error:
            raise WrongOrigin(
                f"train.from: expected the weights of a network, got those of version {self.version_id}, which is none "
                f"({error})"
            ) from error
        weights = {name.removeprefix(_NETWORK): held for name, held in tensors.items() if name.startswith(_NETWORK)}
        inputs = Names(input_names(self.dataset.transforms), input_names(dataset.transforms))
        before, now = (
            [(name,) for name in each.label.place_names or each.classes] if classes else []
            for each in (self.dataset, dataset)
        )
        return Origin(weights, inputs, Names(before, now), _rescaled(tensors, labels))


def _rescaled(tensors: Mapping[str, torch.Tensor], labels: object) -> Scales | None:
    """Return what `Origin.rescaled` says: the versions of a regression hold their label's mean and deviation.

    Quantiles are learned beside where they start, in the label's own scale, which older versions did not.
    """
    if not isinstance(labels, Moments) or not {"mean", "deviation"} <= tensors.keys():
        return None
    if tensors["mean"].shape != np.shape(labels.mean):
        return None  # of another horizon
    if isinstance(labels, OrderedLabels):
        start = start_of(labels).numpy()
        return None if "start" in tensors else (np.ones_like(start), -start)
    mean, deviation = (
        tensors[name].numpy() if labels.steps else float(tensors[name]) for name in ("mean", "deviation")
    )
    if np.array_equal(mean, labels.mean) and np.array_equal(deviation, labels.deviation):
        return None
    return deviation / labels.deviation, (mean - labels.mean) / labels.deviation


def require_there(pipeline: Pipeline, beginning: Beginning | None) -> None:
    """Raise WrongOrigin where a spec names a version that was not there when the run was planned.

    A champion of its own may not be there yet: the first run begins from the seed. To learn on from another pipeline's
    was asked for, and a model that learned from nothing is not that.
    """
    named = pipeline.train.origin
    if named is None or beginning is not None:
        return
    other, ordinal = named_version(named)
    if ordinal:
        raise WrongOrigin(
            f"train.from: expected version {named}, which the registry did not have when it planned the run; name "
            "another, or champion"
        )
    if other not in ("", pipeline.name):
        raise WrongOrigin(
            f"train.from: expected a champion of pipeline {other!r}, which had none when the run was planned: nothing "
            "was released there yet, or it was deleted; name another, or leave train.from out to begin from the seed"
        )
