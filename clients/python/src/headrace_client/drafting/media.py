"""From pictures or sounds, in folders by class or in a topic with the class in a header, to a pipeline's YAML."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from headrace_data.records import RecordChecker
from headrace_data.select.values import Message
from headrace_data.spec import SpecInvalid, load_pipeline

from headrace_client.class_folders import LABEL, ClassFile
from headrace_client.drafting import Draft, name_of
from headrace_client.drafting.errors import DraftImpossible
from headrace_client.drafting.observing import Observed, observe
from headrace_client.drafting.roles import LABEL_NAMES, Placed, Roles
from headrace_client.drafting.selecting import Column, Selection
from headrace_client.drafting.writing import Sent, comment_text, pipeline_yaml

LOOKED_AT: Final = 100
"""Files that are opened, for their size and for what the draft would reject."""
_MOST_SIDE: Final = 128
"""Longest side of pictures that are taken as they are; others are stretched."""
_STRETCHED: Final = 64
_LEAST_SIDE: Final = 8
_MOST_SECONDS: Final = 2

PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff")

Opened = Callable[[ClassFile], bytes]


class _Taken(NamedTuple):
    """How files of a kind become a feature."""

    name: str
    column: str
    shape: tuple[int, ...]
    low: int
    high: int
    format: str
    told: str
    sent: str


class MediaRecord(NamedTuple):
    """A picture or a sound with what stands beside it, as a message of Kafka tells it."""

    value: bytes
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int = 0


def draft_of_folder(topic: str, folder: str, files: Sequence[ClassFile], count: int, opened: Opened) -> Draft:
    """Return a pipeline for some of the `count` files in a folder: the folder that each lies in is its class.

    Raises DraftImpossible where they make none, or the library that reads them is not there.
    """
    looked = [
        MediaRecord(opened(each), each.name.encode(), [(LABEL, each.label.encode())]) for each in files[:LOOKED_AT]
    ]
    ids, labels = _observed("id", [each.name for each in files]), _observed(LABEL, [each.label for each in files])
    id_ = Placed(ids, "id", "the place of a file in its folder, which is its key")
    label = Placed(labels, "label", "the folder that a file lies in")
    told = f"{'all' if len(files) == count else f'{len(files)} of'} {count} files in {comment_text(folder, 100)}"
    return _draft(topic, told, files[0].kind, looked, id_, label)


def draft_of_messages(topic: str, records: Sequence[MediaRecord], wanted: str | None = None) -> Draft:
    """Return a pipeline for a topic of pictures or sounds; `wanted` names the header with the class of each.

    Without it, it is the one with the fewest values that is called as labels are, or else is on all. Raises
    DraftImpossible where there is none, and as `draft_of_folder` does.
    """
    held = [dict(each.headers) for each in records]
    values = {
        name: [each[name].decode(errors="replace") if name in each else "" for each in held]
        for name in sorted({name for each in held for name in each})
    }
    name = wanted if wanted in values else None
    if wanted is None:
        known = [each for each in LABEL_NAMES if each in values]
        whole = [each for each in values if all(values[each]) and not each.startswith("headrace-")]
        name = next(iter([*known, *sorted(whole, key=lambda each: len(set(values[each])))]), None)
    if name is None:
        expected = "a header with the class of each record" if wanted is None else f"a header '{wanted}'"
        raise DraftImpossible(f"topic '{topic}': expected {expected}, got headers {', '.join(values) or 'none'}")
    keys = [(each.key or b"").decode(errors="replace") for each in records]
    if not all(keys):
        raise DraftImpossible(f"topic '{topic}': expected a key in each record, as rows are divided by it, got none")
    ids = Placed(_observed("id", keys), "id", "the key")
    label = Placed(_observed("label", values[name]), "label", "guessed" if wanted is None else "")
    kind = "image" if records[0].value.startswith(PICTURES) else "sound"
    told = f"{len(records)} records of topic {topic}"
    return _draft(topic, told, kind, records[-LOOKED_AT:], ids, label, name)


def _observed(name: str, values: Sequence[str]) -> Observed:
    return observe([{name: value} for value in values])[0]


def _draft(
    topic: str,
    told: str,
    kind: str,
    looked: Sequence[MediaRecord],
    id_: Placed,
    label: Placed,
    header: str = LABEL,
) -> Draft:
    values = [each.value for each in looked]
    try:
        taken = (_pictures if kind == "image" else _sounds)(values)
    except ImportError as error:
        raise DraftImpossible(f"{kind}s are read with headrace-data[media]: {error}") from error
    count = label.field.records
    feature = Placed(Observed(taken.name, count, "float32", taken.shape, low=taken.low, high=taken.high), "feature")
    roles = Roles((id_, feature, label), (), None, "classification")
    quoted = header.replace("'", "''")
    columns = {
        "id": Column("id", (), (), "$key"),
        taken.name: Column(taken.name, (), (), taken.column, taken.told),
        "label": Column("label", (), (), f"$headers['{quoted}']"),
    }
    sent = Sent(
        f"{taken.sent} per record, with a key and the header {comment_text(header)}", (f"  format: {taken.format}",)
    )
    text = pipeline_yaml(name_of(topic), topic, roles, told, Selection(columns, "label"), sent)
    try:
        stream = load_pipeline(text).stream
    except SpecInvalid as error:
        raise DraftImpossible(f"no pipeline can be made of {told}: {error}") from error
    messages: Sequence[Message] = looked
    checked = RecordChecker(stream).check(values, [0] * len(values), range(len(values)), messages=messages)
    rejected = dict(Counter(each.rule for each in checked.rejected))
    return Draft(name_of(topic), text, roles, count, rejected, selects=True)


def _pictures(files: Sequence[bytes]) -> _Taken:
    from PIL import Image

    sizes: Counter[tuple[int, int]] = Counter()
    colours = False
    for data in files:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                sizes[picture.height, picture.width] += 1
                colours |= picture.mode not in ("1", "L", "LA", "I;16")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # which the draft counts as rejected
    if not sizes:
        raise DraftImpossible("expected PNG or JPEG files, got none that can be read")
    (height, width), most = sizes.most_common(1)[0]
    is_one = most == sizes.total() and max(height, width) <= _MOST_SIDE
    if is_one:
        told = f"all of {width} x {height} pixels"
    else:
        usual = round(median(min(size) for size in sizes.elements()))
        height = width = max(_LEAST_SIDE, min(_STRETCHED, usual))
        told = f"of {len(sizes)} sizes, {most} of {sizes.total()} alike: each is stretched to {width} x {height}"
    shape = (3, height, width) if colours else (height, width)
    return _Taken("picture", "pixels", shape, 0, 255, _format("image", is_one, "size: resize"), told, "one PNG or JPEG")


def _sounds(files: Sequence[bytes]) -> _Taken:
    import soundfile

    rates: Counter[int] = Counter()
    lengths: list[int] = []
    for data in files:
        try:
            found: Any = soundfile.info(io.BytesIO(data))
        except soundfile.SoundFileError:
            continue
        rates[found.samplerate] += 1
        lengths.append(found.frames)
    if not lengths:
        raise DraftImpossible("expected WAV or FLAC files, got none that can be read")
    rate = rates.most_common(1)[0][0]
    length = min(round(median(lengths)), _MOST_SECONDS * rate)
    is_one = set(lengths) == {length}
    told = f"{length} samples" if is_one else f"{min(lengths)} to {max(lengths)} samples: cut, or filled, to {length}"
    form = f"{{kind: sound, rate: {rate}{'' if is_one else ', length: fit'}}}"
    return _Taken("sound", "samples", (length,), -1, 1, form, told, "one WAV or FLAC")


def _format(kind: str, is_one: bool, otherwise: str) -> str:
    return kind if is_one else f"{{kind: {kind}, {otherwise}}}"
