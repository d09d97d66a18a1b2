"""The probability from which on a class is the answer: chosen on the validation split, by what the graph answers."""

import numpy as np
from headrace_data.spec import Threshold
from headrace_data.tasks.classification import PROBABILITIES
from headrace_data.tasks.deciding import MAXIMISED, best_threshold, least_cost
from headrace_engines.beside import Graph
from headrace_learning.evaluation import Answerer, Labelled
from headrace_learning.graphs import Array

from headrace_trainer.errors import WrongDataset


def choose(wanted: Threshold, graph: Graph, positive: int, validation: Labelled) -> float:
    """Return the best threshold of the class at a place among two. Raises WrongDataset where the split lacks one."""
    answerer = Answerer(graph)
    probabilities: list[Array] = []
    of_class: list[Array] = []
    for features, truth in validation:
        probabilities.append(answerer.answers(features)[PROBABILITIES])
        of_class.append(truth == answerer.classes[positive])
    inside = np.concatenate(of_class)
    if inside.all() or not inside.any():
        raise WrongDataset(
            f"train.threshold: expected rows of {answerer.classes[positive]!r} and others in the validation split, got "
            f"{int(inside.sum())} of {len(inside)}; raise prepare.split.validation or freeze more records"
        )
    costs = wanted.costs
    worth = least_cost(costs.missed, costs.false_alarm) if costs else MAXIMISED[wanted.maximise or ""]
    return best_threshold(np.concatenate(probabilities), positive, inside, worth)
