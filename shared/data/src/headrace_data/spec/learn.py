"""The train and compress sections."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import pydantic

from headrace_data.spec.augment import Augment
from headrace_data.spec.compute import Compute
from headrace_data.spec.networks import Network
from headrace_data.spec.optimizer import Optimizer
from headrace_data.spec.privacy import Privacy
from headrace_data.spec.scalars import DnsLabel, Duration, FieldName, PositiveInt, Size
from headrace_data.spec.section import Section
from headrace_data.spec.transfer import Layer, Origin
from headrace_data.spec.tune import Tune
from headrace_data.spec.variants import AnyVariant
from headrace_data.spec.when import ALWAYS, When
from headrace_data.tasks import TASKS, TaskKind, TaskSettings
from headrace_data.tasks.classification import LEARNED_DIVERGENCE

_ANSWERS: Final = "; ".join(f"{kind}: {task.answer}" for kind, task in TASKS.items())
_MEASURES: Final = "; ".join(
    f"{kind}: {', '.join(each.name for each in task.measured)}" for kind, task in TASKS.items()
)
_ERRORS: Final = ", ".join(
    f"{task.headline.name} of a {kind}"
    for kind, task in TASKS.items()
    if any(gate.setting == "error_rise" for gate in task.gates)
)


class EarlyStop(Section):
    """Stop when the validation loss stands still; the best epoch's weights are kept."""

    patience: PositiveInt = pydantic.Field(default=5, description="Epochs to wait for a better loss.")
    min_delta: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=0.0,
        description="Improvement that counts as better: in nats; for a regression in variances of the label, for "
        "quantiles in its deviations.",
    )


class Costs(Section):
    """What wrong answers cost, in any unit."""

    missed: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(description="A row of the class that is not found.")
    false_alarm: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(
        description="Another row that is taken for one of the class."
    )


class Threshold(Section):
    """From which probability on the class that is looked for is the answer: chosen on the validation split."""

    maximise: str | None = pydantic.Field(
        default=None, description="What is to be most there: f1, accuracy or balanced_accuracy. Or `costs`."
    )
    costs: Costs | None = pydantic.Field(default=None, description="What is to be least there, in the place of that.")


class Budget(Section):
    """What a run may take."""

    cpu: Duration | None = pydantic.Field(
        default=None,
        description="Processor time of training, that of attempts that were interrupted included as far as checkpoints "
        "tell. The run then ends with the best epoch, the one that was cut short included; how far it comes depends on "
        "the machine, so such runs do not repeat. Left out: any.",
    )
    memory: Size | None = pydantic.Field(
        default=None,
        description="Memory that training may need. A run that needs more by an estimate of the least is refused "
        "before it begins. Left out: what there is.",
    )


class Train(Section, TaskSettings):
    """From a dataset to a version."""

    model: DnsLabel | None = pydantic.Field(default=None, description="Name clients call. Default: metadata.name.")
    task: TaskKind | None = pydantic.Field(
        default=None,
        description=f"What is answered. {_ANSWERS}. Default: regression for a label of type float32 or float64, "
        "classification for others; of a label with a shape multilabel for type bool, regression for others.",
    )
    network: Annotated[Network, pydantic.Field(discriminator="kind")] = pydantic.Field(description="What is trained.")
    origin: Origin | None = pydantic.Field(
        default=None,
        alias="from",
        exclude_if=lambda value: value is None,  # as for classWeights
        description="The version whose weights a network begins with, as far as its layers fit: champion, which is the "
        "one released when the run is planned; a number, such as 3, for a version of the same model; or one of these "
        "of another pipeline, such as digits/3. Without a champion of its own yet, and left out: the seed's.",
    )
    freeze: Annotated[tuple[Layer, ...], pydantic.Field(max_length=256)] = pydantic.Field(
        default=(),
        exclude_if=lambda value: not value,  # as for classWeights
        description="Layers that stay as they are in the version that `from` names, as its weights name them without "
        '`network.`: of an mlp "0", "3", "6"; a beginning, such as encoder, stands for all below it.',
    )
    rates: dict[Layer, Annotated[float, pydantic.Field(gt=0, le=1000)]] = pydantic.Field(
        default_factory=dict,
        exclude_if=lambda value: not value,  # as for classWeights
        description="By what the learning rate is multiplied for layers, by name as in `freeze`, while one learns on "
        "from another version; of two names that mean a layer the longer counts.",
    )
    optimizer: Optimizer = pydantic.Field(default_factory=Optimizer, description="How weights are moved.")
    class_weights: Literal["balanced", "none"] = pydantic.Field(
        default="none",
        exclude_if=lambda value: value == "none",  # so that specs keep the digests they had before there were weights
        description="Classification and multilabel only. balanced: each class counts alike however few rows it has, "
        "and so do the rows with and without a label. none: each row does.",
    )
    positive: bool | int | str | None = pydantic.Field(
        default=None,
        description="Classification only: the value of the label that is looked for, such as fraud. precision, recall, "
        "f1, roc_auc and pr_auc are of it. Left out: the second of two values in order, such as true, and of more "
        "values the mean over each.",
    )
    threshold: Threshold | None = pydantic.Field(
        default=None,
        description="Labels of two values only: how the probability is chosen above which the one that is looked for "
        "is the answer, in the served graph too. Left out: the likelier one is the answer.",
    )
    epochs: Annotated[int, pydantic.Field(ge=1, le=100_000)] = pydantic.Field(
        default=20, description="Passes over the training split, at most."
    )
    batch_size: Annotated[int, pydantic.Field(ge=1, le=1_048_576)] = pydantic.Field(
        default=64, description="Rows per step."
    )
    seed: Annotated[int, pydantic.Field(ge=0, le=2**32 - 1)] = pydantic.Field(
        default=0, description="Start of every random number; the same seed gives the same version."
    )
    early_stop: EarlyStop | None = pydantic.Field(default=None, description="Left out: all epochs are run.")
    augment: Augment | None = pydantic.Field(
        default=None, description="How training rows are changed in each epoch. Left out: they are as they are."
    )
    compute: Compute | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="On what a network is trained. Left out: the CPU, with one thread, in 32 bits; such runs repeat to "
        "the byte.",
    )
    budget: Budget | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="What a run may take. Left out: what there is.",
    )
    privacy: Privacy | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="How much a version may tell of one row that it learned from; networks only, and the trainer needs "
        "the extra `privacy`. Such runs draw secret noise: they do not repeat. Left out: nothing is promised.",
    )
    tune: Tune | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="Settings that are searched for; the trainer needs the extra `tune`. Left out: what is said is "
        "trained by.",
    )
    when: When = pydantic.Field(
        default=ALWAYS,
        exclude_if=lambda value: value == ALWAYS,  # as for classWeights
        description="Which datasets are trained on. always: each. Else, once a version is served, that version is "
        "scored on the rows of each cut before anything learns from them, and those datasets are trained on for which "
        "one of these holds; `headrace get decisions` tells why, or why not. Without a version, and after a change of "
        "what is learned, each is.",
    )
    slices: Annotated[tuple[FieldName, ...], pydantic.Field(max_length=4)] = pydantic.Field(
        default=(),
        exclude_if=lambda value: not value,  # as for classWeights
        description="Fields by whose values the test split is measured part by part too, such as [city, sex]: single "
        "texts, bools and whole numbers. Of each the 20 commonest values are told apart. `compress.gates.slices` says "
        "what each part must reach. Left out: the whole is measured, and of a classification each class.",
    )
    compare_with: Literal["trees"] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="For a table. trees: beside each version trees of default size are grown of the same rows, and its "
        "page tells what they score. They are neither kept nor served. A trainer without the extra trees, a dataset "
        "that is streamed and one of more than 20 million inputs go without. Left out: nothing is grown.",
    )


LOGIT_ERROR = 0.05
"""Default of the gate relativeLogitError."""
ERROR_RISE = 0.02
"""Default of the gate errorRise."""
NDCG_DROP = 0.01
"""Default of the gate ndcgDrop."""
PERPLEXITY_RISE = 0.1
"""Default of the gate perplexityRise."""
GREEDY_AGREEMENT_LEAST = 0.8
"""Default of the gate greedyAgreement."""


EMBEDDING_COSINE_LEAST = 0.99
"""Default of the gate embeddingCosine."""
BENEFIT = 0.99
"""Default of the gate benefit."""
SLICE_ROWS = 30
"""Default of the gates' sliceRows."""


class Gates(Section):
    """What a variant must reach, measured against fp32 on the test split."""

    accuracy_drop: Annotated[float, pydantic.Field(ge=0, le=1)] = pydantic.Field(
        default=0.01, description="Classification: accuracy it may lose, at most."
    )
    agreement: Annotated[float, pydantic.Field(ge=0, le=1)] = pydantic.Field(
        default=0.98,
        description="Classification and multilabel: share of rows, or of their labels, with the same answer, at least.",
    )
    relative_logit_error: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=LOGIT_ERROR,
        description="Classification and multilabel: norm of the logits' difference over theirs, at most. Another limit "
        f"than {LOGIT_ERROR:g} judges all variants; that one not those that learn anew, distilled and pruned, whose "
        "logits are their own.",
    )
    kl_divergence: Annotated[float, pydantic.Field(ge=0)] | None = pydantic.Field(
        default=None,
        description="Classification: mean Kullback-Leibler divergence of its probabilities from those of fp32, in "
        f"nats, at most. Left out: any; of variants that learn anew {LEARNED_DIVERGENCE:g}.",
    )
    error_rise: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=ERROR_RISE,
        exclude_if=lambda value: value == ERROR_RISE,  # as for classWeights
        description=f"Rise of the error that the task is known by ({_ERRORS}), as a share of it, at most.",
    )
    ndcg_drop: Annotated[float, pydantic.Field(ge=0, le=1)] = pydantic.Field(
        default=NDCG_DROP,
        exclude_if=lambda value: value == NDCG_DROP,  # as for classWeights
        description="Ranking: NDCG it may lose, at most.",
    )
    perplexity_rise: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=PERPLEXITY_RISE,
        exclude_if=lambda value: value == PERPLEXITY_RISE,  # as for classWeights
        description="Generation: rise of the perplexity of known answers, as a share of it, at most.",
    )
    greedy_agreement: Annotated[float, pydantic.Field(ge=0, le=1)] = pydantic.Field(
        default=GREEDY_AGREEMENT_LEAST,
        exclude_if=lambda value: value == GREEDY_AGREEMENT_LEAST,  # as for classWeights
        description="Generation: share of the tokens of fp32's greedy answers that a variant answers too, each given "
        "those before it, at least.",
    )
    embedding_cosine: Annotated[float, pydantic.Field(ge=-1, le=1)] = pydantic.Field(
        default=EMBEDDING_COSINE_LEAST,
        exclude_if=lambda value: value == EMBEDDING_COSINE_LEAST,  # as for classWeights
        description="An encoder with embedding: mean cosine of its embeddings with those of fp32, at least.",
    )
    size_ratio: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(
        default=1.0, description="Its size over that of fp32, at most."
    )
    latency_ratio: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(
        default=1.5, description="Its latency over that of fp32, at most."
    )
    benefit: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(
        default=BENEFIT,
        exclude_if=lambda value: value == BENEFIT,  # as for classWeights
        description="Its size, its latency at one row or that at 32 over that of fp32, whichever is least, at most: a "
        "variant that is neither smaller nor faster is for nothing.",
    )
    certainty: Annotated[float, pydantic.Field(gt=0.5, lt=1)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="With what certainty, such as 0.95, gates hold that compare the measure that the task is known by "
        "with fp32's, on rows like those of the test split: the bad end of the interval of the difference decides. A "
        "test split of fewer than 20 rows makes nothing certain. Left out: what was measured decides.",
    )
    membership_auc: Annotated[float, pydantic.Field(ge=0.5, le=1)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for classWeights
        description="Classification and regression: how well one who has a row may tell by its loss whether fp32, or a "
        "variant, learned from it, as ROC-AUC over training and test rows, at most, such as 0.55; 0.5 is not at all. "
        "A test of one attack is no bound: `train.privacy` is. Left out: not measured.",
    )
    measure: str | None = pydantic.Field(
        default=None,
        description="By which versions are compared with the served one and with their baseline, one of the task's. "
        f"{_MEASURES}. Left out: the first of these.",
    )
    limits: dict[str, float] = pydantic.Field(
        default_factory=dict,
        exclude_if=lambda value: not value,  # as for classWeights
        description="What each variant, fp32 too, must reach by itself, by measure: at least where more is better, "
        "such as recall: 0.8, else at most, such as log_loss: 0.3.",
    )
    worse: dict[str, Annotated[float, pydantic.Field(ge=0)]] = pydantic.Field(
        default_factory=dict,
        exclude_if=lambda value: not value,  # as for classWeights
        description="By how much a variant may be worse than fp32, by measure and in its unit, at most, such as "
        "pr_auc: 0.01.",
    )
    slices: dict[str, float] = pydantic.Field(
        default_factory=dict,
        exclude_if=lambda value: not value,  # as for classWeights
        description="What each variant, fp32 too, must reach in each slice of `train.slices`, by measure as in "
        "`limits`: the worst slice decides, such as recall: 0.7.",
    )
    worse_in_slices: dict[str, Annotated[float, pydantic.Field(ge=0)]] = pydantic.Field(
        default_factory=dict,
        exclude_if=lambda value: not value,  # as for classWeights
        description="By how much a variant may be worse than fp32 in any slice of `train.slices`, as `worse` of all "
        "rows, such as recall: 0.02.",
    )
    slice_rows: PositiveInt = pydantic.Field(
        default=SLICE_ROWS,
        exclude_if=lambda value: value == SLICE_ROWS,  # as for classWeights
        description="Rows of the test split that a slice has at least for gates to judge it: of few rows a measure "
        "says little.",
    )
    baseline: Literal["required", "ignored"] = pydantic.Field(
        default="required",
        exclude_if=lambda value: value == "required",  # as for classWeights
        description="Of a version that no served one is compared with, such as the first. required: it is released "
        "when it answers no worse than always the training split's commonest class, its mean or its quantiles, each "
        "place of the label its own, or a random order. With classWeights balanced the mean of the classes' accuracies "
        "counts. ignored: it is released all the same.",
    )


class Compress(Section):
    """Which smaller variants of a version are made. fp32 is always there.

    Which of those that pass is served says `serve.objective`.
    """

    variants: Annotated[tuple[AnyVariant, ...], pydantic.Field(max_length=16)] = pydantic.Field(
        default=(), description="Variants to make and measure."
    )
    gates: Gates = pydantic.Field(default_factory=Gates, description="What a variant must reach to be served.")
