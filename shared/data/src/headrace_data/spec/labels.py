"""Labels that come later than their rows, on a topic of their own: `stream.labels`."""

from __future__ import annotations

import pydantic

from headrace_data.spec.formats import Envelope, Format
from headrace_data.spec.scalars import Duration, FieldName, RecordKey, TopicName
from headrace_data.spec.section import Section


class Labels(Section):
    """Where labels come from that are known only after their rows; they are joined to these by key."""

    topic: TopicName = pydantic.Field(description="The topic of the labels, in the cluster of the producers' topic.")
    format: Format = pydantic.Field(default="json", description="How a label's record is encoded, as stream.format.")
    envelope: Envelope | None = pydantic.Field(default=None, description="What it comes in, as stream.envelope.")
    key: FieldName | None = pydantic.Field(
        default=None,
        description="Key of the value in a label's record that says whose label it is: the row's key. Default: the "
        "name of the field that identifies rows.",
    )
    label: FieldName | None = pydantic.Field(
        default=None,
        description="Key of the value that is the label. Default: the name of the field with role label.",
    )
    time: RecordKey | None = pydantic.Field(
        default=None,
        description="Key of the value that says since when the label is known, as stream.time. Default: the timestamp "
        "of the record in Kafka.",
    )
    within: Duration = pydantic.Field(
        default=7 * 24 * 3600.0,
        description="How far a label's time may be from its row's, before or behind it, and so how long a row waits. "
        "Of several labels of a row the last one within this is taken. A row that has none then is counted as "
        "`unlabelled`, and is part of no dataset.",
    )
