"""Classification: the logits of the classes, learned by cross-entropy."""

from functools import partial

import torch
from headrace_data.dataset import class_indexes
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.classification import ClassCounts

from headrace_learning.heads.head import Learned
from headrace_learning.served import ServedClassifier
from headrace_learning.training.objectives import Classification, balanced_weights


def learn(pipeline: Pipeline, classes: Classes, labels: ClassCounts) -> Learned:
    """Return what is learned: each class counts alike where the spec wants them balanced."""
    counts = [labels.counts[value] for value in classes]
    weights = balanced_weights(torch.tensor(counts)) if pipeline.train.class_weights == "balanced" else None
    places = partial(class_indexes, classes=classes)
    return Learned(
        outputs=len(classes),
        objective=Classification(weights),
        targets=lambda values: torch.from_numpy(places(values)),
        serve=ServedClassifier,
        counts=counts,
    )
