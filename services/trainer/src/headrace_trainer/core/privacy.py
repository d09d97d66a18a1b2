"""How much of a run's privacy each of its trainings may spend, and what the version says of it."""

from collections.abc import Mapping
from typing import Any

from headrace_data.spec import Pipeline, Train
from headrace_data.spec.privacy_rules import exact_fits
from headrace_learning.families.family import Fitted
from headrace_learning.training.private import require_small_delta


def with_share_of_privacy(train: Train, asked: Train, rows: int) -> Train:
    """Return the section of one training on so many rows with its share: of a search each trial has as much as another.

    All trials learn from the same rows, and what they spend adds up (Dwork and Roth, "The Algorithmic Foundations of
    Differential Privacy", 2014, theorem 3.16), also of trials that are given up. Raises NotLearnable where the
    delta of all together promises nothing.
    """
    if train.privacy is None or asked.tune is None:
        return train
    require_small_delta(train.privacy, rows)
    trials, privacy = asked.tune.trials, train.privacy
    share = {"epsilon": privacy.epsilon / trials, "delta": privacy.delta / trials}
    return train.model_copy(update={"privacy": privacy.model_copy(update=share)})


def privacy_told(pipeline: Pipeline, fitted: Fitted) -> dict[str, Any] | None:
    """Return what a version says of its privacy, None where nothing was promised. Of a search that of all trials."""
    told: Mapping[str, Any] | None = fitted.outcome.privacy
    if told is None:
        return None
    trials = pipeline.train.tune.trials if pipeline.train.tune else 1
    spent = {"epsilon": trials * told["epsilon"], "delta": trials * told["delta"], "trials": trials}
    exact = exact_fits(pipeline.stream.fields, pipeline.prepare.transform, pipeline.task)
    # Noise is drawn from the operating system: no run gives these bytes again.
    return {**told, **spent, "exact_fits": exact, "repeats": False}
