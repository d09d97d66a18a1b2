"""Classification: the logits of the classes, learned by cross-entropy."""

from functools import partial

import numpy as np
import torch
from headrace_data.dataset import class_indexes
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.classification import ClassCounts
from torch.nn import functional

from headrace_learning.graphs import LOGITS, Array
from headrace_learning.heads.head import Learned, Teaching
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
        teaching=Teaching(LOGITS, logits, divergence),
    )


def logits(values: Array) -> torch.Tensor:
    """Return logits as they are learned from, [rows, places] float32."""
    return torch.from_numpy(values.astype(np.float32))


def divergence(outputs: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 times the Kullback-Leibler divergence of probabilities from the teacher's, both at temperature T.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2. Both are [rows, classes]
    logits.
    """
    teacher = functional.log_softmax(taught / temperature, dim=1)
    student = functional.log_softmax(outputs / temperature, dim=1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
