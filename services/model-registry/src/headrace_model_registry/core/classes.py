"""What a release serves by class of processors: messages of the contracts, as those of `facts`."""

from dataclasses import dataclass

from headrace_model_registry.core.backfill import Artifact


@dataclass(frozen=True, slots=True)
class ServedVariant:
    """A variant that a replica may answer with."""

    variant: str
    graph: Artifact


@dataclass(frozen=True, slots=True)
class ClassVariants:
    """What replicas on processors of one class serve: the variants that passed there, the one to serve first."""

    cpu_class: str
    variants: tuple[ServedVariant, ...]
