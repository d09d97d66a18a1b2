"""Settings for a pipeline's train section, each with its reason: a table of rules over what is known of the rows.

Pure. The rules are for tables and small images on processors; how near they come to a search is measured by
`python -m benchmarks.advice`. Sources, by the rules that are from them:

* families: Grinsztajn, Oyallon and Varoquaux, "Why do tree-based models still outperform deep learning on typical
  tabular data?", NeurIPS 2022; McElfresh et al., "When Do Neural Nets Outperform Boosted Trees on Tabular Data?",
  NeurIPS 2023.
* batches: Masters and Luschi, "Revisiting Small Batch Training for Deep Neural Networks", 2018.
* optimiser and schedule: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, and "SGDR", ICLR
  2017; Goyal et al., "Accurate, Large Minibatch SGD", 2017, for the warm-up.
* early stop: Prechelt, "Early Stopping - But When?", 1998.
* leaves, rows in each, rounds: LightGBM's own page "Parameters Tuning".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

_TRAINING_SHARE: Final = 0.7
"""Share of the rows that are learned from."""
IMBALANCED: Final = 3
"""How many times as frequent as the rarest the most frequent class is when classes are weighted."""
_MANY_INPUTS: Final = 40
_FEW_STEPS: Final = 300
_STEPS_A_SECOND: Final = 4_000
"""Steps of a small network that one core makes in a second, about."""


@dataclass(frozen=True)
class Known:
    """What is known of the rows, and what is wanted of the model."""

    rows: int
    """Rows of a dataset, over all splits."""
    inputs: int
    """Values of a row once it is prepared, about."""
    task: Literal["classification", "regression"]
    classes: int = 0
    """Values of the label; 0 for a regression."""
    imbalance: float = 1.0
    """How many times as frequent as the rarest the most frequent class is."""
    texts: int = 0
    """Features that are texts."""
    image: tuple[int, ...] = ()
    """Shape of the one feature where it is an image; empty for a table."""
    latency_ms: float | None = None
    """What a row may take to be answered, in milliseconds."""
    budget_s: float | None = None
    """Processor time that a run may take, in seconds."""
    family: Literal["mlp", "cnn", "trees"] | None = None
    """The kind of model, where it is chosen already."""

    @property
    def training(self) -> int:
        """Rows that are learned from."""
        return max(1, round(self.rows * _TRAINING_SHARE))


@dataclass(frozen=True)
class Advised:
    """One setting."""

    path: str
    """Below train, such as optimizer.learningRate."""
    value: Any
    reason: str


def advise(known: Known) -> list[Advised]:
    """Return settings for the train section, each with its reason, in the order in which a document has them."""
    family, reason = _family(known)
    rules = _TREES if family == "trees" else _NETWORK
    settings = [Advised("network.kind", family, reason)]
    for rule in rules:
        settings += rule(known, family)
    if known.task == "classification" and known.imbalance > IMBALANCED:
        settings.append(
            Advised("classWeights", "balanced", f"the commonest class is {known.imbalance:.0f} times the rarest")
        )
    if known.budget_s:
        settings.append(Advised("budget.cpu", f"{max(1, round(known.budget_s))}s", "what a run may take"))
    return settings


def section(advised: list[Advised]) -> dict[str, Any]:
    """Return settings as a train section of plain values."""
    plain: dict[str, Any] = {}
    for each in advised:
        *sections, last = each.path.split(".")
        here = plain
        for name in sections:
            here = here.setdefault(name, {})
        here[last] = each.value
    return plain


def _family(known: Known) -> tuple[str, str]:
    if known.family:
        return known.family, "asked for"
    if known.image:
        return "cnn", f"one feature is an image of {' x '.join(map(str, known.image))}"
    if known.latency_ms is not None and known.latency_ms < _TREES_MS:
        return "mlp", f"a row within {known.latency_ms:g} ms: some hundreds of trees take longer than small matrices"
    if known.rows >= _TREES_ROWS and known.texts:
        return "trees", f"a table of {known.rows:,} rows with {known.texts} texts: trees part such values best"
    if known.rows >= _TREES_MANY_ROWS:
        return "trees", f"a table of {known.rows:,} rows: trees have enough of them for every split"
    return "mlp", f"a table of {known.rows:,} rows: smooth answers carry further than splits where rows are few"


_TREES_MS: Final = 0.05
_TREES_ROWS: Final = 1_000
_TREES_MANY_ROWS: Final = 20_000


def _layers(known: Known, family: str) -> Iterator[Advised]:
    if family == "cnn":
        wide = known.training >= 10_000
        yield Advised("network.channels", [32, 64] if wide else [16, 32], f"{known.training:,} rows to learn from")
        yield Advised("network.hidden", [64], "one layer after the convolutions is enough for few classes")
        return
    rows = known.training
    hidden = [32] if rows < 150 else [64, 32] if rows < 3_000 else [128, 64] if rows < 50_000 else [256, 128]
    reason = f"{rows:,} rows to learn from"
    if known.inputs > _MANY_INPUTS and rows >= 500:
        hidden = [2 * width for width in hidden]
        reason += f", and {known.inputs} inputs to look at"
    yield Advised("network.hidden", hidden, reason)
    spare = rows / max(1, known.inputs)
    dropout = 0.2 if spare < 30 else 0.1 if spare < 3_000 else 0.0
    yield Advised(
        "network.dropout", dropout, f"{spare:.0f} rows for each input: the fewer, the more is learned by heart"
    )


def _moving(known: Known, family: str) -> Iterator[Advised]:
    steps = _epochs(known) * _steps(known)
    rate = 0.002 if family != "mlp" else 0.01 if steps < _FEW_STEPS else 0.003
    yield Advised("optimizer.kind", "adamw", "needs the least tuning; its decay is apart from the gradients")
    yield Advised("optimizer.learningRate", rate, f"for {steps:,} steps: the fewer, the further each has to go")
    yield Advised("optimizer.weightDecay", 0.01, "keeps weights small that nothing asks for")
    schedule = {"kind": "cosine", "warmup": 1}
    yield Advised("optimizer.schedule", schedule, "large steps first, small ones at the end; an epoch to warm up")


def _passes(known: Known, _family: str) -> Iterator[Advised]:
    batch, steps, epochs = _batch(known), _steps(known), _epochs(known)
    reason = f"{steps} steps in each make about {epochs * steps:,} in all"
    if known.budget_s and epochs == _affordable(known):
        reason = "as many as the budget lasts for, so that the schedule comes to its end"
    yield Advised("epochs", epochs, reason)
    yield Advised(
        "batchSize", batch, f"{steps} steps in an epoch: smaller batches find better minima, larger ones are faster"
    )
    patience = max(10, epochs // 4)
    yield Advised("earlyStop.patience", patience, "a quarter of the epochs: the loss of a small split jumps")


def _epochs(known: Known) -> int:
    """Return as many epochs as make 4,000 steps, between 15 and 60, and no more than the budget lasts for."""
    epochs = min(60, max(15, round(4_000 / _steps(known))))
    return min(epochs, _affordable(known)) if known.budget_s else epochs


def _affordable(known: Known) -> int:
    return max(1, int((known.budget_s or 0.0) * _STEPS_A_SECOND / _steps(known)))


def _steps(known: Known) -> int:
    """Return how many steps an epoch has."""
    return math.ceil(known.training / _batch(known))


def _batch(known: Known) -> int:
    """Return the power of two nearest to a fortieth of the rows, between 32 and 512."""
    return int(min(512, max(32, 2 ** round(math.log2(max(1.0, known.training / 40))))))


def _growth(known: Known, _family: str) -> Iterator[Advised]:
    rows = known.training
    leaves = 7 if rows < 1_000 else 15 if rows < 5_000 else 31 if rows < 100_000 else 63
    yield Advised("network.leaves", leaves, f"{rows:,} rows to learn from: small trees, and many")
    yield Advised("network.minRows", 5 if rows < 1_000 else 20, "rows in a leaf: fewer are chance")
    rounds, rate = (600, 0.05) if rows < 100_000 else (500, 0.1)
    if known.budget_s and known.budget_s < 30:
        rounds, rate = rounds // 2, rate * 2
    yield Advised("network.rounds", rounds, "at most: the early stop ends them where the loss stands still")
    yield Advised("network.learningRate", rate, f"small, for {rounds} rounds")
    yield Advised("network.l2", 1.0, "pulls the answers of leaves with few rows to zero")
    yield Advised("earlyStop.patience", 30, "rounds without a lower loss; one round moves little")


_Rule = Callable[[Known, str], Iterator[Advised]]
_NETWORK: Final[tuple[_Rule, ...]] = (_layers, _moving, _passes)
_TREES: Final[tuple[_Rule, ...]] = (_growth,)
