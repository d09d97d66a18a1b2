"""How one feature becomes numbers: what fills its gaps, how a number is scaled, how it becomes several inputs."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import pydantic

from headrace_data.spec.scalars import ElementType, Number, PositiveInt
from headrace_data.spec.section import Section


def _form_of_constant(value: object) -> str | None:
    if isinstance(value, str):
        return "a text"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else None


def _form_of_impute(value: object) -> str | None:
    if isinstance(value, dict | Constant):
        return "a mapping"
    return "a word" if isinstance(value, str) and value in _STATISTICS else None


class Constant(Section):
    """A value that stands for every missing one."""

    constant: Annotated[
        Annotated[str, pydantic.Field(min_length=1), pydantic.Tag("a text")]
        | Annotated[Number, pydantic.Tag("a number")],
        pydantic.Discriminator(
            _form_of_constant, custom_error_type="constant", custom_error_message="expected a number or a text"
        ),
    ] = pydantic.Field(description="A number for a number feature, a text for a category.")


Statistic = Literal["mean", "median", "mostFrequent"]
"""A value of the training split that stands for a missing one."""
_STATISTICS: Final = get_args(Statistic)
# Told apart by form, or each fault would be reported once for each form that a value does not have.
Impute = Annotated[
    Annotated[Statistic, pydantic.Tag("a word")] | Annotated[Constant, pydantic.Tag("a mapping")],
    pydantic.Discriminator(
        _form_of_impute,
        custom_error_type="impute",
        custom_error_message="expected mean, median, mostFrequent or {constant: VALUE}",
    ),
]
"""What stands for a missing value."""


MAX_INPUTS: Final = 1000
"""Most inputs of a network that one feature may become."""


class Winsorize(Section):
    """Values beyond two quantiles count as these, then mean 0 and deviation 1."""

    kind: Literal["winsorize"] = pydantic.Field(description="Cut the tails off.")
    low: Annotated[float, pydantic.Field(ge=0, lt=0.5)] = pydantic.Field(
        default=0.01, description="Share of the training split's values that is cut off below."
    )
    high: Annotated[float, pydantic.Field(gt=0.5, le=1)] = pydantic.Field(
        default=0.99, description="Share of the values from which on they are cut off."
    )


class Quantile(Section):
    """The rank of a value among those of the training split."""

    kind: Literal["quantile"] = pydantic.Field(description="Rank, by 101 quantiles and straight lines between them.")
    to: Literal["normal", "uniform"] = pydantic.Field(
        default="normal", description="normal: ranks become a bell of mean 0 and deviation 1. uniform: 0 to 1."
    )


class Categories(Section):
    """Categories of which the rare ones count as one."""

    kind: Literal["onehot", "ordinal"] = pydantic.Field(description="As without limits.")
    max_categories: Annotated[int, pydantic.Field(ge=1, le=MAX_INPUTS)] | None = pydantic.Field(
        default=None, description="Only so many categories, the most frequent, are told apart."
    )
    min_count: PositiveInt | None = pydantic.Field(
        default=None, description="Only categories with so many rows of the training split are told apart."
    )


class Hash(Section):
    """The remainder of a text's hash, so that no category is ever unknown; some share an input."""

    kind: Literal["hash"] = pydantic.Field(description="MurmurHash3 of the text.")
    inputs: Annotated[int, pydantic.Field(ge=2, le=MAX_INPUTS)] = pydantic.Field(
        default=32, description="Inputs of the network that the texts are spread over."
    )


class Target(Section):
    """What the label is on average in a category, drawn to the mean of all rows where it has few."""

    kind: Literal["target"] = pydantic.Field(description="Mean of the label, or share of each class, in the category.")
    smoothing: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=20.0,
        description="So many rows of the mean over all are added to each category: one of as many rows lies half way.",
    )
    of: Literal["mean", "shares"] | None = pydantic.Field(
        default=None,
        description="mean: of a label of numbers. shares: of each class, of two classes of the second. Left out: the "
        "mean of numbers, else shares.",
    )
    max_categories: Annotated[int, pydantic.Field(ge=1, le=10_000)] = pydantic.Field(
        default=10_000, description="Only so many categories, the most frequent, are told apart; others are as unknown."
    )

    def counts_classes(self, label: ElementType) -> bool:
        """Return whether labels of this type are counted value by value; else they are summed up."""
        return label in ("string", "bool") if self.of is None else self.of == "shares"


class Buckets(Section):
    """The interval that a number lies in: one input for each."""

    kind: Literal["buckets"] = pydantic.Field(description="Intervals between edges.")
    count: Annotated[int, pydantic.Field(ge=2, le=256)] = pydantic.Field(
        default=10, description="Intervals with about as many rows of the training split each; no part beside edges."
    )
    edges: Annotated[tuple[Number, ...], pydantic.Field(min_length=1, max_length=255)] | None = pydantic.Field(
        default=None, description="Where intervals begin, rising. Left out: at quantiles of the training split."
    )


class Cyclic(Section):
    """The place in a cycle, as sine and cosine: 23 o'clock is next to 0."""

    kind: Literal["cyclic"] = pydantic.Field(description="Two inputs for each period.")
    periods: Annotated[
        tuple[Annotated[Number, pydantic.Field(gt=0)], ...], pydantic.Field(min_length=1, max_length=16)
    ] = pydantic.Field(
        description="Lengths of the cycles, in the field's own unit: [86400, 604800] are hour of the day and day of "
        "the week of seconds since 1970, [24] is that of an hour."
    )


ScaleWord = Literal["standard", "minmax", "robust", "none", "log", "winsorize", "quantile"]
"""How a number is scaled."""
EncodeWord = Literal["onehot", "ordinal", "hash", "target", "text", "buckets"]
"""How a text, or a number, becomes inputs."""
ENCODES_TEXTS: Final = ("onehot", "ordinal", "hash", "target", "text")
"""Kinds of encode for string features; the others are for numbers."""
_SCALES: Final = {"winsorize": "winsorize", "quantile": "quantile"}
_ENCODES: Final = {
    "onehot": "categories",
    "ordinal": "categories",
    "hash": "hash",
    "target": "target",
    "buckets": "buckets",
    "cyclic": "cyclic",
}


def _form_of_scale(value: object) -> str | None:
    return _form(value, get_args(ScaleWord), _SCALES)


def _form_of_encode(value: object) -> str | None:
    return _form(value, get_args(EncodeWord), _ENCODES)


def _form(value: object, words: tuple[str, ...], tags: dict[str, str]) -> str | None:
    if isinstance(value, str):
        return "a word" if value in words else None
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return tags.get(kind) if isinstance(kind, str) else None


def _expected(words: tuple[str, ...], tags: dict[str, str]) -> str:
    return f"expected {_one_of(words)}, or a mapping with {_one_of(tuple(tags))} as kind"


def _one_of(words: tuple[str, ...]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]])


Scale = Annotated[
    Annotated[ScaleWord, pydantic.Tag("a word")]
    | Annotated[Winsorize, pydantic.Tag("winsorize")]
    | Annotated[Quantile, pydantic.Tag("quantile")],
    pydantic.Discriminator(
        _form_of_scale,
        custom_error_type="scale",
        custom_error_message=_expected(get_args(ScaleWord), _SCALES),
    ),
]
"""How a number is scaled: a kind by its name, or with what it can be told."""
Encode = Annotated[
    Annotated[EncodeWord, pydantic.Tag("a word")]
    | Annotated[Categories, pydantic.Tag("categories")]
    | Annotated[Hash, pydantic.Tag("hash")]
    | Annotated[Target, pydantic.Tag("target")]
    | Annotated[Buckets, pydantic.Tag("buckets")]
    | Annotated[Cyclic, pydantic.Tag("cyclic")],
    pydantic.Discriminator(
        _form_of_encode,
        custom_error_type="encode",
        custom_error_message=_expected(get_args(EncodeWord), _ENCODES),
    ),
]
"""How a feature becomes inputs: a kind by its name, or with what it can be told."""
_ORDERED: Final = ("robust", "log", "winsorize", "quantile", "buckets")
_SectionT = TypeVar("_SectionT", bound=Section)
KINDS: Final = frozenset({*get_args(ScaleWord), *get_args(EncodeWord), *_SCALES, *_ENCODES})
"""Every kind of transform."""


class Transform(Section):
    """How one feature becomes numbers to learn from. Fitted on the training split, stored in the model's graph."""

    impute: Impute | None = pydantic.Field(
        default=None,
        description="What stands for a missing value: the mean or median (numbers), the mostFrequent value, or "
        "{constant: VALUE}. Callers send NaN, or an empty text; whole numbers are served as FP64 then. Left out: a "
        "call in which it is missing is refused.",
    )
    encode: Encode | None = pydantic.Field(
        default=None,
        description="Required for categories (string features). onehot: one column for each category of "
        "the training split, all zeros for another. ordinal: the category's place in sorted order, one more than the "
        "last for another. At most 1000 categories; with maxCategories or minCount up to 100,000, of which the rare "
        "ones share a place with those to come. hash: one of 32 columns by the text's hash, for texts of any number. "
        "target: what the label is on average in the category, for training rows in the rows of other folds. "
        "text: as it is, for a network that reads language. "
        "Single numbers: buckets, one column for each of ten intervals, or {kind: cyclic, periods: [...]}.",
    )
    scale: Scale | None = pydantic.Field(
        default=None,
        description="Numbers only. standard: mean 0 and deviation 1. minmax: 0 to 1. robust: median 0 and distance of "
        "the quartiles 1. none: as it comes, as when left out. log: sign(x) log(1 + |x|), then as standard. winsorize: "
        "without the lowest and highest hundredth, then as standard. quantile: the rank, as a bell; single numbers "
        "only.",
    )

    def kind_of(self, element: ElementType) -> str:
        """Return the kind of transform of a feature of elements of this type."""
        chosen = self.encode or ("onehot" if element == "string" else self.scale or "none")
        return chosen if isinstance(chosen, str) else chosen.kind

    @property
    def needs_order(self) -> bool:
        """Whether it is fitted from the order of values."""
        return self.kind_of("float64") in _ORDERED

    @property
    def limits_categories(self) -> bool:
        """Whether rare categories count as one."""
        chosen = self.encode
        return isinstance(chosen, Categories) and (chosen.max_categories, chosen.min_count) != (None, None)

    def told(self, section: type[_SectionT]) -> _SectionT:
        """Return what a kind was told, its defaults where it was named by its word alone."""
        for chosen in (self.encode, self.scale):
            if isinstance(chosen, section):
                return chosen
        word: Any = self.encode or self.scale
        return section.model_validate({"kind": word})
