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
    weights = None
    if pipeline.train.class_weights == "balanced":
        weights = balanced_weights(torch.tensor([labels.counts[value] for value in classes]))
    places = partial(class_indexes, classes=classes)
    return Learned(
        len(classes), Classification(weights), lambda values: torch.from_numpy(places(values)), ServedClassifier
    )
