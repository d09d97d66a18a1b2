"""What `compress.variants` asks for: one section for each way to make a version smaller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args

import pydantic

from headrace_data.spec.draft import MAX_COMPARED, Draft, Finding
from headrace_data.spec.networks import CnnNetwork, FactorizationMachine, MlpNetwork, ResidualNetwork
from headrace_data.spec.scalars import DnsLabel, Duration, PositiveInt
from headrace_data.spec.section import Section

REFERENCE_VARIANT: Final = "fp32"
"""Name of the variant that is always there: the version as it was trained, which the others are measured against."""
VARIANT_NAMES: Final[Mapping[str, str]] = {
    "int8-dynamic": "int8",
    "float16-weights": "fp16",
    "weight-only-int8": "int8-weights",
    "int8-per-channel": "int8-channels",
    "int8-static": "int8-static",
    "distilled": "distilled",
    "weight-only-int4": "int4-weights",
    "low-rank": "low-rank",
    "pruned": "pruned",
    "qat": "qat",
    "gguf-q8": "q8",
    "gguf-q4": "q4",
    "lora-adapter": "adapter",
}
"""What a variant is called that has no name of its own, by kind."""


def _named(otherwise: str) -> Any:
    return pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that specs keep the digests they had before there were names
        description=f"What it is called. Default: {otherwise}.",
    )


Plain = Literal["int8-dynamic", "float16-weights", "weight-only-int8", "weight-only-int4", "int8-per-channel"]
"""Kinds without settings of their own."""


class Variant(Section):
    """One way to make a version smaller."""

    kind: Plain = pydantic.Field(
        description="int8-dynamic: 8-bit weights, activations as they come. float16-weights: weights of half the size, "
        "computed as before. weight-only-int8: 8-bit weights, and answers that do not depend on other rows of a call. "
        "weight-only-int4: the same with 4 bits, smaller and rougher. int8-per-channel: weights of a quarter of the "
        "size, those of convolutions too, computed as before. One that does not apply to a model is left out, with the "
        "reason."
    )
    name: DnsLabel | None = _named(", ".join(f"{VARIANT_NAMES[kind]} of {kind}" for kind in get_args(Plain)))

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


class StaticVariant(Section):
    """8-bit weights and activations, in ranges that rows of the training split show."""

    kind: Literal["int8-static"] = pydantic.Field(
        description="Matrix products and convolutions in whole numbers of 8 bits. Answers do not depend on other rows "
        "of a call."
    )
    name: DnsLabel | None = _named("int8-static")
    calibrate: Literal["best", "percentile", "entropy", "minmax"] = pydantic.Field(
        default="best",
        description="How ranges are chosen. percentile: 99.99 % of the numbers lie within. entropy: what is lost of "
        "the distribution is least. minmax: all lie within. best: as of these three errs least on the rows.",
    )
    rows: Annotated[int, pydantic.Field(ge=1, le=65_536)] = pydantic.Field(
        default=512, description="Rows of the training split that are looked at, at most; drawn by `train.seed`."
    )
    error: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(
        default=0.03,
        description="How far answers on these rows may be from float's, as a share of their spread. Where they are "
        "further, outliers of inputs are moved to weights; where that does not do, the layers that err most stay "
        "float, at most half of them.",
    )
    bits: Literal[7, 8] = pydantic.Field(
        default=7,
        exclude_if=lambda value: value == 7,  # as for names
        description="Of a weight. 7 answer rightly on every processor. 8 are made on one that adds in 32 bits alone "
        "(VNNI, AMX, ARM's dot product): others would cut sums off, and no release gives it to them.",
    )

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


class ShallowerEncoder(Section):
    """The version's own encoder with fewer layers."""

    kind: Literal["encoder"] = pydantic.Field(
        description="Of an encoder: it begins with some of the version's layers, evenly spread, and learns what these "
        "make of a row as well. What words stand for stays. The compressor needs the extra `encoder`."
    )
    layers: Annotated[int, pydantic.Field(ge=1, le=64)] = pydantic.Field(
        description="How many layers it has: fewer than the version."
    )


Student = Annotated[
    MlpNetwork | CnnNetwork | ResidualNetwork | FactorizationMachine | ShallowerEncoder,
    pydantic.Field(discriminator="kind"),
]
"""A network that learns from another."""
HIDDEN: Final = 1.0
"""Default of how much a layer counts beside what is answered."""


class DistilledVariant(Section):
    """A smaller network that learns what the version answers."""

    kind: Literal["distilled"] = pydantic.Field(
        description="A student is trained on the training split by the labels and by what the version answers, with "
        "the pipeline's optimizer, batchSize and seed, and kept where it answers the validation split better than the "
        "same student by the labels alone. Every task but ranking, whose rows are learned by the group. It answers "
        "otherwise than the version: gates.agreement has to leave room for that."
    )
    name: DnsLabel | None = _named("distilled")
    network: Student = pydantic.Field(
        description="The student: mlp, cnn, residual or factorization, as train.network; or encoder, with layers."
    )
    temperature: Annotated[float, pydantic.Field(gt=0, le=100)] = pydantic.Field(
        default=2.0,
        description="By what logits are divided before they are compared: the more, the softer. A task "
        "without logits does not heed it.",
    )
    alpha: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.5, description="Share of the label's loss; the rest is the teacher's."
    )
    hidden: Annotated[float, pydantic.Field(ge=0, le=1000)] = pydantic.Field(
        default=HIDDEN,
        exclude_if=lambda value: value == HIDDEN,  # as for names
        description="An encoder's student: how much the distance of its layers from the version's counts beside both "
        "losses.",
    )
    rate: Annotated[float, pydantic.Field(gt=0, le=10)] = pydantic.Field(
        default=1.0,
        exclude_if=lambda value: value == 1.0,  # as for names
        description="Learning rate as a share of the pipeline's, such as 0.1 of an encoder's student where the "
        "version learned by lora: every weight of the student learns.",
    )
    epochs: Annotated[int, pydantic.Field(ge=1, le=10_000)] = pydantic.Field(
        default=50, description="Passes over the training split, at most."
    )
    patience: PositiveInt = pydantic.Field(
        default=8, description="Epochs to wait for a better validation loss, as of train.earlyStop."
    )
    budget: Duration = pydantic.Field(
        default=600.0,
        description="Processor time of both students together; they end with their best epoch so far when it is spent, "
        "and which that is depends on the machine.",
    )

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


class LowRankVariant(Section):
    """Matrix products as two thin ones, where rows of the training split leave most directions unused."""

    kind: Literal["low-rank"] = pydantic.Field(
        description="Each product with fewer weights, as far as its answers on the rows stay what they were. Products "
        "that would not shrink stay as they are."
    )
    name: DnsLabel | None = _named("low-rank")
    energy: Annotated[float, pydantic.Field(gt=0, lt=1)] = pydantic.Field(
        default=0.999, description="Share of the squares of what a product answers that is kept, at least."
    )
    rank: PositiveInt | None = pydantic.Field(
        default=None, description="Rank of every product, in the place of energy. Left out: as energy says."
    )
    rows: Annotated[int, pydantic.Field(ge=1, le=65_536)] = pydantic.Field(
        default=2048, description="Rows of the training split that are looked at, at most; drawn by `train.seed`."
    )

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


class PrunedVariant(Section):
    """The version's own network with fewer units and channels."""

    kind: Literal["pruned"] = pydantic.Field(
        description="mlp, cnn and residual: the units and channels of least weight go, with all that depends on them, "
        "and the network learns on by the pipeline's optimizer, batchSize and seed. The compressor needs the extra "
        "`prune`. It answers otherwise than the version: gates.agreement has to leave room for that."
    )
    name: DnsLabel | None = _named("pruned")
    ratio: Annotated[float, pydantic.Field(gt=0, lt=1)] = pydantic.Field(
        default=0.5, description="Share of each layer's units, or channels, that go; those that answer stay."
    )
    steps: Annotated[int, pydantic.Field(ge=1, le=20)] = pydantic.Field(default=3, description="In how many steps.")
    epochs: Annotated[int, pydantic.Field(ge=1, le=10_000)] = pydantic.Field(
        default=10, description="Passes over the training split after each step; the best by validation loss is kept."
    )
    budget: Duration = pydantic.Field(
        default=600.0,
        description="Processor time of all steps together, each an equal part; what it learns until then is kept, and "
        "that depends on the machine.",
    )

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


class AwareVariant(Section):
    """The version's own network, learned on with its numbers rounded as int8-static rounds them."""

    kind: Literal["qat"] = pydantic.Field(
        description="mlp, cnn and residual: quantisation-aware training. Ranges are those of int8-static and every "
        "layer is rounded; the version's weights learn on by the pipeline's optimizer, batchSize and seed, and are "
        "written as int8-static writes them. There is none where it answers the validation split worse than that one."
    )
    name: DnsLabel | None = _named("qat")
    calibrate: Literal["best", "percentile", "entropy", "minmax"] = pydantic.Field(
        default="best", description="How ranges are chosen, as of int8-static."
    )
    rows: Annotated[int, pydantic.Field(ge=1, le=65_536)] = pydantic.Field(
        default=512, description="Rows of the training split that ranges follow from, as of int8-static."
    )
    epochs: Annotated[int, pydantic.Field(ge=1, le=10_000)] = pydantic.Field(
        default=10, description="Passes over the training split; the best by validation loss is kept."
    )
    rate: Annotated[float, pydantic.Field(gt=0, le=10)] = pydantic.Field(
        default=0.1,
        description="Learning rate as a share of the pipeline's: steps that change little more than rounding.",
    )
    budget: Duration = pydantic.Field(
        default=600.0,
        description="Processor time; what it learns until then is kept, and that depends on the machine.",
    )

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


class TextVariant(Section):
    """A language model with weights of fewer bits, as GGUF has them, or as a difference of what it began with."""

    kind: Literal["gguf-q8", "gguf-q4", "lora-adapter"] = pydantic.Field(
        description="Of the task generation alone, which no other kind applies to. gguf-q8: weights of 8 bits, Q8_0. "
        "gguf-q4: of 4 bits, Q4_1, smaller and rougher, but for the weights that bear it least. Norms stay float. "
        "lora-adapter: of causal-lm with tune: lora, what it learned alone, as PEFT keeps it, beside the imported "
        "model, which all versions share."
    )
    name: DnsLabel | None = _named("q8 of gguf-q8, q4 of gguf-q4, adapter of lora-adapter")

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name or VARIANT_NAMES[self.kind]


OF_TEXTS: Final = ("gguf-q8", "gguf-q4", "lora-adapter")
"""Kinds of variants of models that write texts, which no others apply to."""
Step = Annotated[
    Variant | StaticVariant | LowRankVariant | DistilledVariant | PrunedVariant,
    pydantic.Field(discriminator="kind"),
]
"""What can be a step of a chain. qat begins from the version's weights, and rounds each of them: it would be the first
step and the last."""


class Chain(Section):
    """Several ways to make a version smaller, one after the other, as one variant."""

    kind: Literal["chain"] = pydantic.Field(
        description="Each step makes a smaller graph of what the step before it made. Where one does not apply there "
        "is no variant. pruned comes first, then distilled, whose student then learns from the pruned network, then "
        "low-rank, then what rounds weights."
    )
    name: DnsLabel = pydantic.Field(description="What it is called.")
    steps: Annotated[tuple[Step, ...], pydantic.Field(min_length=2, max_length=8)] = pydantic.Field(
        description="What is done, in order: kinds of variants with their settings, each once."
    )

    @property
    def called(self) -> str:
        """Its name, unique in the pipeline."""
        return self.name


AnyVariant = Annotated[
    Variant | StaticVariant | LowRankVariant | DistilledVariant | PrunedVariant | AwareVariant | TextVariant | Chain,
    pydantic.Field(discriminator="kind"),
]
_LEARNING: Final = ("distilled", "pruned", "qat")
"""Kinds that learn anew: what they make does not compute what the version does, only rounded."""


def learns(variant: AnyVariant) -> bool:
    """Whether a variant learns anew, or a step of it does: it is judged by what it answers alone."""
    return any(step.kind in _LEARNING for step in (variant.steps if isinstance(variant, Chain) else (variant,)))


def variants_are_different(draft: Draft) -> Iterator[Finding]:
    """Demand that each variant has a name of its own."""
    variants = draft.at("compress", "variants")
    if not isinstance(variants, list) or len(variants) > MAX_COMPARED:
        return
    known = {REFERENCE_VARIANT}
    for position, variant in enumerate(variants):
        called = variant_name(variant)
        if called in known:
            told = f"expected each variant once, got {called!r} again; `name` tells two of a kind apart"
            yield ("compress", "variants", position), told
        elif called is not None:
            known.add(called)


def variant_name(variant: object) -> str | None:
    """Return the name of a variant as it was written, None where it has none."""
    if not isinstance(variant, dict):
        return None
    name, kind = variant.get("name"), variant.get("kind")
    if isinstance(name, str):
        return name
    return VARIANT_NAMES.get(kind) if isinstance(kind, str) else None


_BEFORE: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "pruned": ((), "as the first step: it begins from the version's weights"),
    "distilled": (("pruned",), "as the first step, or behind pruned: a student begins anew"),
    "low-rank": (("pruned", "distilled"), "before what rounds weights: it leaves no products to be factored"),
}
"""Steps that make nothing of what some others made: which may stand before them, and what is expected."""
_LAST: Final = ("float16-weights", "int8-per-channel")
"""Steps that round all weights there are."""


def steps_are_different(draft: Draft) -> Iterator[Finding]:
    """Demand of a chain each step once, in an order in which each can do something, and without names of their own."""
    variants = draft.at("compress", "variants")
    for position, variant in enumerate(variants if isinstance(variants, list) else ()):
        steps = variant.get("steps") if isinstance(variant, dict) else None
        if not isinstance(steps, list) or len(steps) > MAX_COMPARED:
            continue
        kinds: list[object] = []
        for place, step in enumerate(steps):
            path = ("compress", "variants", position, "steps", place)
            kind = step.get("kind") if isinstance(step, dict) else None
            if kind is not None and kind in kinds:
                yield path, f"expected each step once, got {kind} again"
            before, why = _BEFORE.get(kind, ((), "")) if isinstance(kind, str) else ((), "")
            if why and any(isinstance(each, str) and each not in before for each in kinds):
                yield path, f"expected {kind} {why}"
            if kind in _LAST and place < len(steps) - 1:
                yield path, f"expected {kind} as the last step: it leaves no weights to those behind it"
            if isinstance(step, dict) and "name" in step:
                yield (*path, "name"), "expected a step without a name: the chain has one"
            kinds.append(kind)
