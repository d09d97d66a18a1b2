"""What becomes of personal fields before anything of a record is stored: `stream.personal`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import pydantic

from headrace_data.spec.scalars import DnsLabel, RecordKey
from headrace_data.spec.section import Section

Treatment = Literal["drop", "mask", "hash", "tokenize"]
"""What becomes of a personal field."""
KEYED: Final = ("hash", "tokenize")
"""Treatments that need a key."""
MOST_FIELDS: Final = 1024
Treatments = Annotated[dict[RecordKey, Treatment], pydantic.Field(min_length=1, max_length=MOST_FIELDS)]


class PrivateFields(Section):
    """Personal fields, and what becomes of each before anything of a record is stored.

    With it a dead letter holds no bytes of the record: the reason without the value, and the fields of the schema that
    are sound, treated as in a row. It is replayed from the producers' topic, while that has the record.
    """

    key: DnsLabel | None = pydantic.Field(
        default=None,
        description="Name of the key that values are hashed or tokenised with: a file of that name, of 32 bytes or "
        "more, which services have (HEADRACE_PERSONAL_KEYS_DIR). Without the file the pipeline waits for it. Another "
        "key has another name: a file that is replaced makes other values of the same people.",
    )
    fields: Treatments = pydantic.Field(
        description="What becomes of each. drop: it is stored nowhere, and not in the schema. mask: a placeholder such "
        "as `[email]` for what is found in a text, of all kinds that `prepare.clean.personal` knows. hash: 32 "
        "hexadecimal digits, the same for the same value, from which nobody gets back. tokenize: a text from which "
        "whoever has the key gets the value back. What is hashed or tokenised is an id or a group of type string; "
        "records may have a whole number there."
    )

    def treated(self, *treatments: Treatment) -> tuple[str, ...]:
        """Return the names of the fields that are treated in one of these ways."""
        return tuple(name for name, treatment in self.fields.items() if treatment in treatments)
