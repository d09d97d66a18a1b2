"""The records that contenders read, by shape. Imports nothing: each contender has an environment of its own."""

from typing import Any, NamedTuple


class Field(NamedTuple):
    """One field of a record; all of them hold numbers or texts that are always there."""

    name: str
    type: str
    """string, int64, float32 or float64."""
    role: str
    size: int = 0
    """Numbers in its list; 0 for a single value."""
    low: float = 0
    high: float = 0
    """The range of its numbers."""


class Shape(NamedTuple):
    """What the records of one measurement look like."""

    fields: tuple[Field, ...]
    rows: int
    format: str = "json"
    """json, avro or protobuf."""


ID, LABEL = Field("id", "string", "id"), Field("digit", "int64", "label", high=9)
_JSON = {
    "8 fields": Shape(
        (
            ID,
            Field("temperature", "float64", "feature", low=-50, high=60),
            Field("pressure", "float32", "feature", high=2_000),
            Field("humidity", "float32", "feature", high=1),
            Field("count", "int64", "feature", high=100_000),
            Field("battery", "int64", "feature", high=100),
            Field("site", "string", "group"),
            LABEL,
        ),
        300_000,
    ),
    "64 numbers": Shape((ID, Field("pixels", "float32", "feature", 64, high=16), LABEL), 150_000),
    "1,000 numbers": Shape((ID, Field("wave", "float32", "feature", 1_000, low=-1, high=1), LABEL), 15_000),
}


FORMATS = {"avro": "Avro", "protobuf": "Protobuf"}
SHAPES = _JSON | {
    f"{name} in {told}": shape._replace(format=kind) for kind, told in FORMATS.items() for name, shape in _JSON.items()
}


def valid(record: dict[str, Any], value: bytes, fields: tuple[Field, ...]) -> bool:
    """Return whether a record is one that ingestion accepts: no key twice, and every value of its type and size."""
    return value.count(b'":') == len(record) and fits(record, fields)


def fits(record: dict[str, Any], fields: tuple[Field, ...]) -> bool:
    """Return whether every value of a record is of its type and size."""
    return all(_fits(record.get(field.name), field) for field in fields)


def _fits(value: Any, field: Field) -> bool:
    if field.type == "string":
        return type(value) is str and bool(value.strip())
    wanted = {int} if field.type == "int64" else {int, float}
    if not field.size:
        return type(value) in wanted and field.low <= value <= field.high
    return (
        type(value) is list
        and len(value) == field.size
        and set(map(type, value)) <= wanted
        and field.low <= min(value)
        and max(value) <= field.high
    )
