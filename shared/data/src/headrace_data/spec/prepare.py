"""The prepare section: cleaning, transforms, splitting and freezing."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import pydantic

from headrace_data.spec.cleaning import Missing, Outliers, Policy
from headrace_data.spec.hold import Hold
from headrace_data.spec.scalars import Duration, FieldName, Fraction, PositiveInt
from headrace_data.spec.section import Section
from headrace_data.spec.texts import NearDuplicates, Personal
from headrace_data.spec.transform import Transform

Condition = Annotated[str, pydantic.Field(min_length=1, max_length=4096)]
"""A condition over a row, in SQL."""
Leak = Literal["report", "stop"]
"""What becomes of a dataset of which training rows are in validation or test, too."""
MAX_TRANSFORMS: Final = 1024
"""Most features that may be transformed: as many as a schema may have fields."""
Scope = Literal["partition", "stream"]
"""Where a key counts as seen."""


def _form_of_key_window(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return "a number"
    return "a time" if isinstance(value, str | float) else None


KeyWindow = Annotated[
    Annotated[int, pydantic.Field(ge=1, le=10_000_000), pydantic.Tag("a number")]
    | Annotated[Duration, pydantic.Tag("a time")],
    pydantic.Discriminator(
        _form_of_key_window,
        custom_error_type="key_window",
        custom_error_message="expected a number of keys or a duration such as 7d",
    ),
]
"""How far back a key counts as seen: so many accepted keys, an int; or so many seconds of event time, a float."""


class Clean(Section):
    """Which rows are dropped before they reach a dataset. Cleaning changes no value but what `personal` masks."""

    missing: Missing = pydantic.Field(
        default="drop",
        description="Rows in which a nullable field is null, or a text blank: drop them, keep them, or drop those that "
        "lack one of some fields, or all of some ({any: [amount], all: [height, width]}). Features whose gaps are kept "
        "need an impute in transform.",
    )
    duplicates: Policy = pydantic.Field(
        default="drop",
        description="Rows whose key was seen within duplicateWindow, in their partition or in the stream "
        "(duplicateScope). What a dataset has twice all the same is counted: `headrace wait` and the report tell.",
    )
    out_of_range: Policy = pydantic.Field(default="drop", description="Rows with a value outside its field's range.")
    duplicate_window: KeyWindow = pydantic.Field(
        default=100_000,
        description="How many accepted keys are remembered: of each partition, and of the stream where that is the "
        "scope. 2.1 MB for 100,000. Or for how long, such as 7d, in event time: needs the scope stream, and remembers "
        "the last 10,000,000 keys at most.",
    )
    duplicate_scope: Scope = pydantic.Field(
        default="partition",
        exclude_if=lambda value: value == "partition",  # so that specs keep the digests they had before there were two
        description="Where a key counts as seen. partition: in the row's own, so a record that is sent twice must land "
        "in one partition, as it does with its key as Kafka's message key. stream: in any, which is found when a "
        "dataset is cut; the rows are read twice for it.",
    )
    personal: Personal | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that specs keep the digests they had before it could be said
        description="What becomes of personal data in texts. Left out: it is not looked for.",
    )
    where: Annotated[tuple[Condition, ...], pydantic.Field(max_length=64)] = pydantic.Field(
        default=(),
        exclude_if=lambda value: not value,  # as above
        description="Conditions over the fields of a row, in the SQL of stream.select, such as `started <= ended`: "
        "rows of which one is not true are dropped. The fields have the types of the schema. As in SQL a condition is "
        "not true where something in it is missing: `ended IS NULL OR started <= ended` keeps such rows.",
    )
    outliers: Outliers | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as above
        description="Training rows with a value far from most others of its field, which datasets leave out. The "
        "rows of the window are read once more for it, and twice where some are left out. Left out: none is.",
    )
    near_duplicates: NearDuplicates | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as above
        description="Training rows that nearly repeat others, which datasets leave out. Takes 260 bytes for each row "
        "of the window, at most 2,097,152 of them, and reads them twice more. Left out: none is.",
    )

    @property
    def remembered(self) -> int:
        """How many accepted keys each partition remembers; 0 where rows are compared at the cut alone."""
        drops = self.duplicates == "drop" and isinstance(self.duplicate_window, int)
        return int(self.duplicate_window) if drops else 0


class Split(Section):
    """Which part of the rows goes where. A row never changes sides."""

    train: Fraction = pydantic.Field(default=0.7, description="Part of the rows to learn from.")
    validation: Fraction = pydantic.Field(default=0.15, description="Part of the rows to stop early by.")
    test: Fraction = pydantic.Field(default=0.15, description="Part of the rows to measure on. The three sum to 1.")
    salt: str = pydantic.Field(default="headrace", description="Another salt gives another division.", max_length=256)
    group: FieldName | None = pydantic.Field(
        default=None,
        description="Field whose value decides the side. Default: the field with role group, then that with role id.",
    )


MAX_AGE_S: Final = 3 * 24 * 3600.0
"""How long clean rows wait for a dataset at most; the clean topic keeps them for more than twice as long."""


class Freeze(Section):
    """When a dataset is cut, of the clean rows since the last one. With neither condition, only on command."""

    after_records: PositiveInt | None = pydantic.Field(default=None, description="Cut when this many clean rows wait.")
    after_idle: Duration | None = pydantic.Field(default=None, description="Cut when no record came for this long.")
    min_records: PositiveInt = pydantic.Field(
        default=1,
        exclude_if=lambda value: value == 1,  # so that specs keep the digests they had before there was a minimum
        description="With afterIdle: fewer clean rows than this wait for more. A command takes them all the same.",
    )

    max_age: Duration = pydantic.Field(
        default=MAX_AGE_S,
        exclude_if=lambda value: value == MAX_AGE_S,  # so that specs keep the digests they had before there was a limit
        description="With afterRecords or afterIdle: cut at the latest when the oldest waiting row is this old, even "
        "while records come without a pause. Keep it well under the 7 days for which the clean topic keeps rows.",
    )


Whole = Literal["new", "all"]
"""A window that is named by a word."""


class Last(Section):
    """A window of time."""

    last: Duration = pydantic.Field(
        description="Rows whose event time is at most this long before the newest row's at the cut; never counted from "
        "the clock on the wall."
    )


class Newest(Section):
    """A window of a number of rows."""

    rows: PositiveInt = pydantic.Field(
        description="The newest so many rows: those of the newest cuts, and of the oldest of these the newest by event "
        "time."
    )


def _form_of_window(value: object) -> str | None:
    if isinstance(value, Last | Newest):
        return "last" if isinstance(value, Last) else "rows"
    if isinstance(value, str):
        return "a word" if value in get_args(Whole) else None
    if isinstance(value, dict) and len(value) == 1:
        return next((form for form in ("last", "rows") if form in value), None)
    return None


# Told apart by form, as impute is.
Window = Annotated[
    Annotated[Whole, pydantic.Tag("a word")]
    | Annotated[Last, pydantic.Tag("last")]
    | Annotated[Newest, pydantic.Tag("rows")],
    pydantic.Discriminator(
        _form_of_window,
        custom_error_type="window",
        custom_error_message="expected new, all, {last: DURATION} or {rows: NUMBER}",
    ),
]
"""Which of a stream's rows make a dataset."""


class Prepare(Section):
    """From records to datasets."""

    clean: Clean = pydantic.Field(default_factory=Clean, description="Which rows are dropped.")
    transform: Annotated[dict[str, Transform], pydantic.Field(max_length=MAX_TRANSFORMS)] = pydantic.Field(
        default_factory=dict,
        description="Filling, encoding and scaling per feature; a number that is not named is taken as it comes.",
    )
    split: Split = pydantic.Field(default_factory=Split, description="Training, validation and test rows.")
    freeze: Freeze = pydantic.Field(default_factory=Freeze, description="When a dataset is cut.")
    window: Window = pydantic.Field(
        default="new",
        exclude_if=lambda value: value == "new",  # so that specs keep the digests they had before there were windows
        description="Which rows a dataset is made of when one is cut: the new ones since the last cut, all that were "
        "ever cut, the last ones by event time ({last: 30d}), or so many of the newest ({rows: 100000}). Left out: "
        "new.",
    )
    leak: Leak | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that specs keep the digests they had before leaks were looked for
        description="What becomes of a dataset of which training rows are in validation or test, too: rows with the "
        "same features and label under another key, or with texts that nearly repeat one. report: they are counted, "
        "and the first ones named. stop: nothing is trained on it, either. Few categories alone make equal rows that "
        "are no leak. The rows of the window are read once more. Left out: nobody looks.",
    )
    min_class_rows: PositiveInt | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as above
        description="Rows that each class must have in each split of a dataset, or nothing is trained on it: with few "
        "rows of a class no measure tells anything of it. Left out: any number will do.",
    )
    hold: Hold | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as above
        description="When what a cut brings is held back instead of trained on: the producer broke something, such as "
        "a unit or a field that is always null. {} takes the bounds below. Left out: nothing is.",
    )
