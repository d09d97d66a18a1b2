"""The version that a run begins from, as the registry named it when the run was planned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline, named_version
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

    def origin(
        self, dataset: Manifest, *, classes: bool, rescaled: Callable[[Mapping[str, torch.Tensor]], Scales | None]
    ) -> Origin:
        """Return what a network takes of it that learns from a dataset. `classes`: whether its answers are classes.

        `rescaled` is that of what is learned of the dataset.

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
        return Origin(weights, inputs, Names(before, now), rescaled(tensors))


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
