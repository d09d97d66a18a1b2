"""What a network begins from, and what of it is learned: `train.from`, `train.freeze` and `train.rates`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.scalars import DNS_LABEL

CHAMPION: Final = "champion"
"""The version that is released, as documents name it."""
VERSION_NAME: Final = re.compile(rf"({DNS_LABEL.pattern}/)?({CHAMPION}|[1-9][0-9]{{0,8}})")
LAYER_NAME: Final = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


class NamedVersion(NamedTuple):
    """A version as `train.from` names it."""

    pipeline: str
    """Name of its pipeline; empty for the one that names it."""
    ordinal: int
    """Its place in its model's history; 0 for the one that is released."""


def named_version(origin: str) -> NamedVersion:
    """Return what `train.from` names. Raises ValueError for a text that is none."""
    if not VERSION_NAME.fullmatch(origin):
        raise ValueError("expected champion, the number of a version, or one of these after PIPELINE/")
    pipeline, _, version = origin.rpartition("/")
    return NamedVersion(pipeline, 0 if version == CHAMPION else int(version))


def _text(value: object) -> object:
    """Return the text of a name that may be given as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _named(value: str) -> str:
    named_version(value)
    return value


Origin = Annotated[
    str,
    pydantic.BeforeValidator(_text),
    pydantic.AfterValidator(_named),
    pydantic.WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{VERSION_NAME.pattern}$"}]}
    ),
]
"""A version to begin from."""
Layer = Annotated[
    str,
    pydantic.Field(pattern=f"^{LAYER_NAME.pattern}$", max_length=256),
    pydantic.BeforeValidator(_text),
    pydantic.WithJsonSchema({"type": "string"}),
]
"""A layer, or several below one name, as the version's weights name them."""


def layers_are_of_a_version(draft: Draft) -> Iterator[Finding]:
    """Demand a version to begin from beside what is said of its layers, and one word about each."""
    frozen, rates = draft.at("train", "freeze"), draft.at("train", "rates")
    for name, told in (("freeze", frozen), ("rates", rates)):
        if told and draft.at("train", "from") is None:
            yield ("train", name), "expected train.from beside it, which says whose layers are meant, got none"
    if isinstance(frozen, list) and isinstance(rates, dict):
        still = {str(layer) for layer in frozen}
        for layer in rates:
            if str(layer) in still:
                yield ("train", "rates", layer), "expected no rate of a layer that train.freeze names, got one"
