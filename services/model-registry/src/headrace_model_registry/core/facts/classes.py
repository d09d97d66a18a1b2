"""What a release serves by class of processors: messages of the contracts, as those of `facts`."""

from dataclasses import dataclass

from headrace_model_registry.core.facts.backfill import Artifact


@dataclass(frozen=True, slots=True)
class GateResult:
    """The judgement of one gate over one variant."""

    variant: str
    gate: str
    passed: bool
    limit: float
    measured: float
    reason: str = ""
    """Why, where limit and measured do not say it all."""


@dataclass(frozen=True, slots=True)
class ServedVariant:
    """A variant that a replica may answer with."""

    variant: str
    graph: Artifact


@dataclass(frozen=True, slots=True)
class ClassVariants:
    """What replicas on processors of one class serve: the variants that passed there, the one to serve first.

    `gates` are told for each class but the one that those of the release are of.
    """

    cpu_class: str
    variants: tuple[ServedVariant, ...]
    gates: tuple[GateResult, ...] = ()
