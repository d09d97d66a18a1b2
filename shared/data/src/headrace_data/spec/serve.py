"""The serve section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.rollout import Rollout
from headrace_data.spec.scalars import DnsLabel, Duration, Size
from headrace_data.spec.scoring import Scoring
from headrace_data.spec.section import Section
from headrace_data.spec.upstream import Upstream

Aim = Literal["fastest", "quality"]
"""An objective that is named by a word."""


def _named_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected each class once, got {', '.join(repeated)} again")
    return names


CpuClasses = Annotated[tuple[DnsLabel, ...], pydantic.Field(max_length=16), pydantic.AfterValidator(_named_once)]
"""Classes of processors, as `headrace_engines.processors` names them."""


class Bounds(Section):
    """What a variant may take; of those within, the one of the best quality is served."""

    p99: Duration | None = pydantic.Field(
        default=None, description="What one run of a single row in a hundred may exceed, on one thread."
    )
    size: Size | None = pydantic.Field(default=None, description="Size of its graph.")


def _form_of_objective(value: object) -> str | None:
    if isinstance(value, Bounds):
        return "bounds"
    if isinstance(value, str):
        return "a word" if value in get_args(Aim) else None
    # One of them at least: bounds that bound nothing choose nothing.
    given = isinstance(value, dict) and any(value.get(each) is not None for each in ("p99", "size"))
    return "bounds" if given else None


# Told apart by form, as a window is.
Objective = Annotated[
    Annotated[Aim, pydantic.Tag("a word")] | Annotated[Bounds, pydantic.Tag("bounds")],
    pydantic.Discriminator(
        _form_of_objective,
        custom_error_type="objective",
        custom_error_message="expected fastest, quality, {p99: DURATION} or {size: SIZE}",
    ),
]
"""By what one of the variants that passed is chosen."""


class Serve(Section):
    """How predictions are answered."""

    cache: Literal["redis", "auto", "off"] = pydantic.Field(
        default="auto",
        description="Whose predictions are kept hot. redis: each model's. auto: of models of which a row takes more "
        "than twice the CPU of a hit in Redis, as each replica measures both again and again. off: none. Without a "
        "Redis none are kept.",
    )
    cache_ttl: Duration = pydantic.Field(default=3600.0, description="How long a prediction stays hot.")
    objective: Objective = pydantic.Field(
        default="fastest",
        exclude_if=lambda value: value == "fastest",  # so that specs keep the digests they had before it could be said
        description="Which of the variants that pass their gates is served, on each class of processors that was "
        "measured. fastest: the one fastest for a single row, at equal speed the smaller. quality: the best by "
        "`compress.gates.measure`, at equal quality the faster. {p99: 5ms}, {size: 20MB} or both: the best of those "
        "within, or where there is none the one nearest to it. It counts from the next release on.",
    )
    degrade: bool = pydantic.Field(
        default=False,
        exclude_if=lambda value: not value,  # as for objective
        description="Whether a replica answers by a variant that passed and takes less time before it refuses calls "
        "for want of time. It keeps such variants in memory beside the one that is served, and goes back by itself. "
        "Each answer names its variant.",
    )
    classes: CpuClasses = pydantic.Field(
        default=(),
        exclude_if=lambda value: not value,  # as for objective
        description="Classes of processors that replicas have, such as [avx2, amx-int8]; `headrace get variants` and "
        "the logs of replicas name them. What is released is measured on each of them too, by a compressor of that "
        "class where there is one, and served there in the variants that pass there. A class that nobody measured "
        "serves fp32.",
    )
    quality: bool = pydantic.Field(
        default=False,
        exclude_if=lambda value: not value,  # as for objective
        description="Whether the quality of answers is measured live, once their labels come (stream.labels): callers "
        "tell the keys of rows in the parameter `key`. Each answer waits then until Kafka has it, some milliseconds, "
        "and a call fails while Kafka is away. The first label of a key counts. From "
        "the next release on.",
    )
    engine: Upstream | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for objective
        description="What computes the answers, where replicas do not: for models of language that are larger than one "
        "machine. Left out, each replica loads what is released.",
    )
    rollout: Rollout | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for objective
        description="How a version that may be served takes the champion's place: step by step, and back by itself "
        "where it fails, is slow, answers no finite numbers or is measured worse (quality). Left out, it does so at "
        "once. Nothing else is trained meanwhile. A version that answers another question than the champion takes its "
        "place at once.",
    )
    scoring: Scoring | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for objective
        description="Records that the model answers on the topic `headrace.records.PIPELINE.scored.v1`: each exactly "
        "once, with its outputs or the reason why it is none, from the first release on. {} answers those of the "
        "producers' topic. Left out: none.",
    )


def there_is_something_cheaper(draft: Draft) -> Iterator[Finding]:
    """Demand an objective that leaves something cheaper from who asks for that under load."""
    if draft.at("serve", "degrade") is True and draft.at("serve", "objective") in (None, "fastest"):
        told = "expected serve.objective to be quality, {p99: DURATION} or {size: SIZE} beside it: nothing is cheaper "
        yield ("serve", "degrade"), f"{told}than the fastest variant, got fastest"
