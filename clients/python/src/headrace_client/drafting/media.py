"""From a folder of pictures or sounds, in folders by class, to a pipeline's YAML."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headrace_data.records import RecordChecker
from headrace_data.select.values import Message
from headrace_data.spec import SpecInvalid, load_pipeline

from headrace_client.drafting import Draft, name_of
from headrace_client.drafting.errors import DraftImpossible
from headrace_client.drafting.observing import Observed, observe
from headrace_client.drafting.roles import Placed, choose_roles
from headrace_client.drafting.selecting import Column, Selection
from headrace_client.drafting.writing import Sent, comment_text, pipeline_yaml

if TYPE_CHECKING:
    from headrace_client.class_folders import ClassFile

LOOKED_AT: Final = 100
"""Files that are opened, for their size and for what the draft would reject."""
_MOST_SIDE: Final = 128
"""Longest side of pictures that are taken as they are; others are stretched."""
_STRETCHED: Final = 64
_MOST_SECONDS: Final = 2

Opened = Callable[["ClassFile"], bytes]


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


def draft_of_folder(topic: str, folder: str, files: Sequence[ClassFile], count: int, opened: Opened) -> Draft:
    """Return a pipeline for some of the `count` files in a folder: the folder that each lies in is its class.

    Raises DraftImpossible where they make none, or the library that reads them is not there.
    """
    looked = [(each, opened(each)) for each in files[:LOOKED_AT]]
    kind = files[0].kind
    try:
        taken = (_pictures if kind == "image" else _sounds)([data for _, data in looked])
    except ImportError as error:
        raise DraftImpossible(f"{folder}: {kind}s are read with headrace-data[media]: {error}") from error
    rows = [{"id": each.name, "label": each.label} for each in files]
    feature = Observed(taken.name, len(files), "float32", taken.shape, low=taken.low, high=taken.high)
    named, label = observe(rows)
    roles = choose_roles([named, feature, label], "label")
    whose = Placed(label, "label", "the folder that a file lies in")
    place = Placed(named, "id", "the place of a file in its folder, which is its key")
    placed = tuple({"label": whose, "id": place}.get(each.role, each) for each in roles.placed)
    roles = replace(roles, placed=placed)
    columns = {
        "id": Column("id", (), (), "$key"),
        taken.name: Column(taken.name, (), (), taken.column, taken.told),
        "label": Column("label", (), (), "$headers['label']"),
    }
    told = f"{'all' if len(files) == count else f'{len(files)} of'} {count} files in {comment_text(folder, 100)}"
    sent = Sent(f"{taken.sent} per record, with a key and the header label", (f"  format: {taken.format}",))
    text = pipeline_yaml(name_of(topic), topic, roles, told, Selection(columns, "label"), sent)
    try:
        stream = load_pipeline(text).stream
    except SpecInvalid as error:
        raise DraftImpossible(f"no pipeline can be made of {folder}: {error}") from error
    beside = [_Beside(each.name.encode(), [("label", each.label.encode())]) for each, _ in looked]
    messages: Sequence[Message] = beside
    places = range(len(looked))
    checked = RecordChecker(stream).check([data for _, data in looked], [0] * len(looked), places, messages=messages)
    rejected = dict(Counter(each.rule for each in checked.rejected))
    return Draft(name_of(topic), text, roles, len(files), rejected, selects=True)


class _Beside(NamedTuple):
    """What stands beside the value of a record."""

    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int = 0


def _pictures(files: Sequence[bytes]) -> _Taken:
    from PIL import Image, UnidentifiedImageError

    sizes: Counter[tuple[int, int]] = Counter()
    colours = False
    for data in files:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                sizes[picture.height, picture.width] += 1
                colours |= picture.mode not in ("1", "L", "LA", "I;16")
        except (UnidentifiedImageError, OSError):
            continue  # which the draft counts as rejected
    if not sizes:
        raise DraftImpossible("expected PNG or JPEG files, got none that can be read")
    (height, width), most = sizes.most_common(1)[0]
    is_one = most == sizes.total() and max(height, width) <= _MOST_SIDE
    if is_one:
        told = f"all of {width} x {height} pixels"
    else:
        height = width = min(_STRETCHED, *(min(size) for size in sizes))
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
