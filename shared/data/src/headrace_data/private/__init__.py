"""Personal fields of records: what is stored in their place, and what may be told of a record that is rejected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import orjson
import pyarrow as pa

from headrace_data.columns import Column, Fault, Piece, column_for
from headrace_data.detectors import PERSONAL, masked_text
from headrace_data.private.hash import Hash
from headrace_data.private.keys import Keys, Secret, no_keys
from headrace_data.private.mask import Mask
from headrace_data.private.tokenize import Tokenize
from headrace_data.private.treatment import Treatment
from headrace_data.spec import Field, Stream
from headrace_data.spec.private_fields import KEYED

__all__ = ["TREATMENTS", "Keys", "PrivateFields", "no_keys", "withheld"]

TREATMENTS: Final[Mapping[str, Callable[[Secret], Treatment]]] = {"mask": Mask, "hash": Hash, "tokenize": Tokenize}
"""What changes a field's texts. A field that is dropped has none: it is in no schema."""
_GOT: Final = ", got "
_EXPECTED: Final = re.compile(r"(?:element \d+: |timestamp of the message: )?expected [^'\"]*")
_Rejection = TypeVar("_Rejection", bound=Any)


def withheld(reason: str, rule: str, field: str = "") -> str:
    """Return a reason without what came, which may be personal: up to what was expected.

    Of a reason in another form, which may quote anything anywhere, only the rule is left.
    """
    expected, got, _ = reason.partition(_GOT)
    if got and _EXPECTED.fullmatch(expected.removeprefix(f"{field}: ")):
        return f"{expected}{_GOT}what is withheld"
    return f"{field or 'record'}: {rule}; the rest is withheld"


class PrivateFields:
    """The personal fields of one stream. Holds no state between records but the key."""

    def __init__(self, stream: Stream, keys: Keys) -> None:
        """`keys` is asked for the key when the first value is hashed or tokenised."""
        self.are_some = stream.personal is not None
        """Whether the stream names any; then nothing is told of records but what `letter` returns."""
        said = stream.personal
        self._keyed = set(said.treated(*KEYED)) if said else set[str]()
        self._secret = Secret((said and said.key) or "", keys)
        self.treatments = {
            name: TREATMENTS[treatment](self._secret)
            for name, treatment in (said.fields if said else {}).items()
            if treatment in TREATMENTS
        }
        """What is done to each field, but for those that are dropped."""

    def require_key(self) -> None:
        """Read the key, where one is needed, so that it is there from now on. Raises what says why there is none."""
        if self._keyed:
            self._secret.require()

    def column(self, field: Field) -> Column:
        """Return the column of a field; what is hashed or tokenised may be a whole number."""
        column = column_for(field)
        return _NumbersAsTexts(column) if field.name in self._keyed else column

    def treated(self, names: Sequence[str], arrays: Sequence[pa.Array]) -> tuple[list[pa.Array], Counter[str]]:
        """Return the columns of these names as they are stored, and what was masked in them by kind."""
        stored, found = list(arrays), Counter[str]()
        for place, name in enumerate(names):
            if (treatment := self.treatments.get(name)) and len(arrays[place]):
                stored[place], counts = treatment.treated(arrays[place])
                found.update(counts)
        return stored, found

    def told(self, rejections: Sequence[_Rejection]) -> list[_Rejection]:
        """Return rejections without the values that they quote."""
        return [replace(each, reason=withheld(each.reason, each.rule, each.field)) for each in rejections]

    def letter(self, record: Mapping[str, Any], columns: Mapping[str, Column]) -> bytes:
        """Return what a dead letter holds of a record, as JSON: the sound ones of these fields, as they are stored.

        A record whose values stand a field further on has its email anywhere: what has the form of personal data is
        masked in every text, and a number that has it is left out.
        """
        sound = {name: record[name] for name, column in columns.items() if name in record}
        held: dict[str, Any] = {}
        for name, value in sound.items():
            if columns[name].fault(value):
                continue
            if value is not None and (treatment := self.treatments.get(name)):
                held[name] = treatment.treated(pa.array([str(value)]))[0][0].as_py()
            elif isinstance(value, str):
                held[name] = masked_text(value, PERSONAL)
            elif not isinstance(value, int | float) or masked_text(f"{value:.0f}", PERSONAL) == f"{value:.0f}":
                held[name] = value
        return orjson.dumps(held)


class _NumbersAsTexts:
    """A column of texts that takes a whole number for its digits: ids are written in both ways."""

    def __init__(self, texts: Column) -> None:
        self._texts = texts

    def read(self, values: list[Any], *, booleans: bool = True) -> Piece | None:
        return self._texts.read([_as_text(value) for value in values], booleans=booleans)

    def fault(self, value: object) -> Fault | None:
        return self._texts.fault(_as_text(value))

    def build(self, pieces: Sequence[Piece]) -> pa.Array:
        return self._texts.build(pieces)


def _as_text(value: object) -> object:
    # type() and not isinstance: to Python, True is an integer.
    return str(value) if type(value) is int else value
