"""Servers of models of language outside of the replicas, as `serve.engine` names them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from typing import Annotated, Final, Literal

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.scalars import DnsLabel
from headrace_data.spec.section import Section
from headrace_data.spec.urls import Url
from headrace_data.spec.variants import REFERENCE_VARIANT, variant_name

DEFAULT_MODEL: Final = "{model}-v{version}"
_MODEL: Final = re.compile(r"[A-Za-z0-9._:/@{}-]{1,256}")
_EXPECTED_MODEL: Final = "expected at most 256 letters, digits and ._:/@- beside {model} and {version}"


def _model(value: str) -> str:
    if not _MODEL.fullmatch(value):
        raise ValueError(_EXPECTED_MODEL)
    try:
        fields = {name for _, name, form, conversion in Formatter().parse(value) if name is not None}
        plain = not any(form or conversion for _, name, form, conversion in Formatter().parse(value))
    except ValueError as error:
        raise ValueError("expected braces around model and version alone") from error
    if not plain or fields - {"model", "version"}:
        raise ValueError("expected braces around model and version alone")
    if "version" not in fields:
        raise ValueError("expected {version} in it: a server that has the next version could not be told from this one")
    return value


def _once(urls: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := sorted({each for each in urls if urls.count(each) > 1}):
        raise ValueError(f"expected each server once, got {', '.join(repeated)} again")
    return urls


Urls = Annotated[tuple[Url, ...], pydantic.Field(min_length=1, max_length=8), pydantic.AfterValidator(_once)]
ModelName = Annotated[str, pydantic.AfterValidator(_model)]
"""What a version is called at another server."""


class Upstream(Section):
    """Servers with OpenAI's API, such as vLLM, that have the model."""

    kind: Literal["upstream"] = pydantic.Field(description="`upstream`: other servers.")
    urls: Urls = pydantic.Field(
        description="Base addresses, such as [http://vllm:8000]. A release is served as soon as one of them has the "
        "model; until then the one before answers, and its answers in hand end where they began. Replicas call those "
        "alone that their operator allows (HEADRACE_UPSTREAM_HOSTS)."
    )
    model: ModelName = pydantic.Field(
        default=DEFAULT_MODEL,
        description="What a version is called there. `{model}` is the name of the model, `{version}` the ordinal. "
        "Of another Headrace's replicas it is `{model}@{version}`.",
    )
    variant: DnsLabel | None = pydantic.Field(
        default=None,
        description="The variant that is served there, where it is not the one that `serve.objective` chooses: "
        "`lora-adapter` is loaded into servers that have the model it was made of.",
    )
    key: DnsLabel | None = pydantic.Field(
        default=None, description="Name of the key that they are asked with, which replicas have; left out for none."
    )


def engine_fits_the_rest(draft: Draft) -> Iterator[Finding]:
    """Demand a model of language from who has it served elsewhere, and one variant of it."""
    if not isinstance(draft.at("serve", "engine"), dict):
        return
    if (task := draft.at("train", "task")) is not None and task != "generation":
        yield ("serve", "engine"), f"expected none for a {task}: other servers answer texts, with task generation"
    variant, variants = draft.at("serve", "engine", "variant"), draft.at("compress", "variants")
    known = {REFERENCE_VARIANT, *map(variant_name, variants)} if isinstance(variants, list) else set()
    if variant and isinstance(variant, str) and known and None not in known and variant not in known:
        told = f"expected one of {', '.join(sorted(map(str, known)))}, as compress.variants names them, got {variant!r}"
        yield ("serve", "engine", "variant"), told
    if draft.at("serve", "classes"):
        yield ("serve", "classes"), "expected none beside serve.engine: replicas compute nothing there"
    if draft.at("serve", "degrade") is True:
        yield ("serve", "degrade"), "expected false beside serve.engine: another server has one variant of a version"
