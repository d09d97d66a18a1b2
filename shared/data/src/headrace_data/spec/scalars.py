"""Types of single values in a pipeline document: durations, names, numbers and element types."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Final, Literal

import numpy as np
import pydantic

ElementType = Literal[
    "string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"
]
"""What one element of a field is."""

DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
TOPIC_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
FUNCTION_NAME: Final = re.compile(rf"({IDENTIFIER.pattern}\.){{0,15}}{IDENTIFIER.pattern}:{IDENTIFIER.pattern}")
SIZE: Final = re.compile(r"([0-9]{1,12})(MB|GB|MiB|GiB)")
_UNIT_BYTES: Final = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
DURATION: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_PLACE: Final = 64
_LONGEST_MS: Final = 365 * _UNIT_MS["d"]


def parse_duration(value: object) -> float:
    """Return the seconds of a duration such as ``500ms``, ``3s``, ``5m``, ``1h`` or ``7d``.

    Raises ValueError when the value is no such text, or not between 1 ms and 365 d.
    """
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    # Eleven digits are enough for the longest duration; more would only cost time to convert.
    if match is None or len(match[1]) > 11:
        raise ValueError("expected a duration such as 500ms, 3s, 5m, 1h or 7d")
    milliseconds = int(match[1]) * _UNIT_MS[match[2]]
    if not 1 <= milliseconds <= _LONGEST_MS:
        raise ValueError("expected a duration between 1ms and 365d")
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Return the one canonical text of a duration: whole seconds when possible, else milliseconds."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def parse_size(value: object) -> int:
    """Return the bytes of a size such as ``512MiB`` or ``8GB``. Raises ValueError for other values, and for none."""
    match = SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError("expected a size such as 512MiB or 8GB")
    return int(match[1]) * _UNIT_BYTES[match[2]]


def format_size(size_bytes: int) -> str:
    """Return the one canonical text of a size: in MiB when whole, else in MB."""
    return f"{size_bytes // 2**20}MiB" if size_bytes % 2**20 == 0 else f"{size_bytes // 10**6}MB"


def _dns_label(value: str) -> str:
    if not DNS_LABEL.fullmatch(value):
        raise ValueError("expected a DNS label: at most 63 lower-case letters, digits and inner hyphens")
    return value


def _field_name(value: str) -> str:
    if not FIELD_NAME.fullmatch(value):
        raise ValueError("expected a letter, then at most 63 letters, digits, '_', '-' or '.'")
    return value


def _place_name(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > _LONGEST_PLACE:
        raise ValueError(f"expected a printable text of at most {_LONGEST_PLACE} letters, not blank")
    return value


def _function_name(value: str) -> str:
    if not FUNCTION_NAME.fullmatch(value):
        raise ValueError("expected package.module:function")
    return value


def _topic_name(value: str) -> str:
    if not TOPIC_NAME.fullmatch(value):
        raise ValueError("expected a Kafka topic name: at most 249 letters, digits, '.', '_' or '-'")
    if value.startswith("headrace."):
        raise ValueError("expected a topic of the producers: names that start with 'headrace.' belong to the platform")
    return value


def _digest(value: str) -> str:
    if not DIGEST.fullmatch(value):
        raise ValueError("expected sha256: and 64 hexadecimal digits")
    return value


def _plain_number(value: float) -> float | int:
    """Make 16.0 and 16 one value, so that both give the same digest."""
    if abs(value) > sys.float_info.max:
        raise ValueError("expected a number that a double can hold")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:  # canonical JSON has none
        raise ValueError("expected a whole number of at most 64 bits, or one with an exponent, such as 1e30")
    return value


def _ordered(value: tuple[float | int, float | int]) -> tuple[float | int, float | int]:
    if not value[0] < value[1]:
        raise ValueError("expected [lowest, highest] with lowest below highest")
    return value


Duration = Annotated[
    float,
    pydantic.BeforeValidator(parse_duration),
    pydantic.PlainSerializer(format_duration, return_type=str),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{DURATION.pattern}$", "examples": ["3s", "5m", "1h"]}),
]
"""Seconds; written as text with a unit."""
Size = Annotated[
    int,
    pydantic.BeforeValidator(parse_size),
    pydantic.PlainSerializer(format_size, return_type=str),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{SIZE.pattern}$", "examples": ["512MiB", "8GB"]}),
]
"""Bytes; written as text with a unit."""
DnsLabel = Annotated[
    str,
    pydantic.AfterValidator(_dns_label),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{DNS_LABEL.pattern}$"}),
]
"""A name that may stand in topic names, host names and metrics."""
FieldName = Annotated[
    str,
    pydantic.AfterValidator(_field_name),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{FIELD_NAME.pattern}$"}),
]
"""Name of a field: the key in a record, the column in a dataset and the tensor of a model."""
PlaceName = Annotated[str, pydantic.AfterValidator(_place_name)]
"""Name of one place of a label with a shape."""
RecordKey = Annotated[str, pydantic.Field(min_length=1, max_length=256)]
"""Key of a value in a record, such as ``@timestamp``: any text, as it names nothing else."""
FolderName = Annotated[str, pydantic.Field(pattern=f"^{FOLDER_NAME.pattern}$", max_length=256)]
"""Path of a folder, without a slash at its end, such as ``scans/2026``."""
FunctionName = Annotated[
    str,
    pydantic.AfterValidator(_function_name),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{FUNCTION_NAME.pattern}$"}),
]
"""Name of a function of Python's: its module's, a colon and its own."""
TopicName = Annotated[
    str,
    pydantic.AfterValidator(_topic_name),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{TOPIC_NAME.pattern}$"}),
]
"""Name of the producers' Kafka topic."""
Number = Annotated[int | float, pydantic.AfterValidator(_plain_number)]
"""A finite number."""
Range = Annotated[tuple[Number, Number], pydantic.AfterValidator(_ordered)]
"""Lowest and highest allowed value, both inclusive."""
Fraction = Annotated[float, pydantic.Field(ge=0.0001, lt=1)]
"""A part of one; splits have a resolution of one in ten thousand."""
Digest = Annotated[
    str,
    pydantic.AfterValidator(_digest),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{DIGEST.pattern}$"}),
]
"""What names bytes in the object store."""
PositiveInt = Annotated[int, pydantic.Field(ge=1, le=2**31 - 1)]
"""A count of at least one."""


def dtype_of(element: ElementType) -> np.dtype[np.generic]:
    """Return the numpy type of a numeric element type; true and false are 1 and 0. Raises TypeError for strings."""
    if element == "string":
        raise TypeError("expected a numeric element type, got 'string'")
    return np.dtype(np.uint8 if element == "bool" else element)
