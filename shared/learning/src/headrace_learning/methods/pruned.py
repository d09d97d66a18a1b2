"""Structured pruning: whole units and channels go, in steps, and the network learns on after each.

Fang, Ma, Song, Mi and Wang, "DepGraph: Towards Any Structural Pruning" (CVPR 2023), by their Torch-Pruning: what
depends on a channel goes with it, such as its normalisation and the inputs of the next layer, and the channels whose
weights have the smallest norm go first. It begins from the version's weights, and learns by the pipeline's optimiser,
batches and seed. Torch-Pruning is an extra (`headrace-learning[prune]`) and imported here alone.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Final

import torch
from headrace_data.errors import DataError
from headrace_data.spec import PrunedVariant
from torch import nn

from headrace_learning.errors import LearningError, NotLearnable
from headrace_learning.families.family import Sources
from headrace_learning.families.network import learn
from headrace_learning.methods.lessons import Lesson, lesson_of, one_thread, unfit
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.training.randomness import seed_weights

_KINDS: Final = ("mlp", "cnn", "residual")
"""Networks that are made of layers whose channels can go."""
_MOST_PLAN_BYTES: Final = 32_768
"""What the plan may take in the record; of a longer one its digest stands there."""


def _make(source: Source, section: PrunedVariant) -> Made | NotApplicable:
    training = source.training
    if training is None or training.weights is None:
        return NotApplicable("pruned: expected a version whose weights and training rows can be read, got its graph")
    kind = training.pipeline.train.network.kind
    if kind not in _KINDS:
        return NotApplicable(f"pruned: expected a network of kind {', '.join(_KINDS)}, got {kind}")
    if reason := unfit(source.graph, training):
        return NotApplicable(f"pruned: expected {reason}")
    try:
        with one_thread():
            return _pruned(lesson_of(training, kind), section)
    except (LearningError, DataError) as error:
        return NotApplicable(f"pruned: expected a network that can be learned on, got: {error}")


def _pruned(lesson: Lesson, section: PrunedVariant) -> Made:
    """Prune in steps, each followed by learning."""
    network = lesson.version()
    before, plan = _numbers(network), []
    pruner = _pruner(network, lesson, section)
    train = lesson.settings(lesson.training.pipeline.train.network, section.epochs, section.budget / section.steps)
    for step in range(section.steps):
        pruner.step()
        # What a step changes is its own: the best epoch of it is kept, by the validation loss.
        seed_weights(train.seed + step)
        learn(network, Sources(lesson.rows, lesson.validation), lesson.learned.objective, lesson.run(train, "pruned"))
        _own_memory(network)
        plan.append({"step": step + 1, "numbers": _numbers(network)})
    if _numbers(network) == before:
        raise NotLearnable(
            f"a ratio is expected at which units of some layer go and others stay, got {section.ratio:g}: none go"
        )
    removed = [{"layer": name, "removed": places} for name, _, places in pruner.pruning_history()]
    return Made(lesson.exported(network), _told(section, train.seed, before, plan, removed))


def _pruner(network: nn.Module, lesson: Lesson, section: PrunedVariant) -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise NotLearnable(
            "Torch-Pruning is expected, which this compressor does not have: install headrace-learning[prune] "
            f"({error})"
        ) from error
    # What answers stays: its outputs are the task's.
    answering = [each for each in network.modules() if isinstance(each, nn.Linear)][-1:]
    return torch_pruning.pruner.MagnitudePruner(
        network.eval(),
        lesson.rows.inputs[:2],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        iterative_steps=section.steps,
        pruning_ratio=section.ratio,
        ignored_layers=answering,
    )


def _own_memory(network: nn.Module) -> None:
    """Give each parameter memory of its own again: an optimiser makes one vector of all."""
    for parameter in network.parameters():
        parameter.grad = None
        parameter.data = parameter.data.clone()


def _numbers(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def _told(
    section: PrunedVariant, seed: int, before: int, steps: list[dict[str, int]], removed: list[dict[str, Any]]
) -> dict[str, str]:
    plan = json.dumps({"ratio": section.ratio, "removed": removed, "steps": steps}, separators=(",", ":"))
    digest = f"sha256:{sha256(plan.encode()).hexdigest()}"
    return {
        "plan": plan if len(plan) <= _MOST_PLAN_BYTES else digest,
        "numbers": f"{steps[-1]['numbers']:,} of {before:,}",
        "seed": str(seed),
        "torch": torch.__version__,
    }


METHOD = Method(_make)
