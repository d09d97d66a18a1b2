"""A hundred thousand mutated files of each kind: each is a row or a rejection, and a sound one beside it is a row."""

from __future__ import annotations

import io
import itertools
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from headrace_data.formats import FORMATS, Decoder, Names
from headrace_data.rejections import Rejection
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "shared" / "data" / "tests"))

from format_samples import mutated, png  # type: ignore[import-not-found]

pytestmark = pytest.mark.timeout(900)

FILES = 100_000
CHUNK = 500
STEPS = struct.pack("<1800i", *itertools.accumulate(random.Random(1).choices(range(-(2**20), 2**20), k=1800)))


def pictures() -> Decoder:
    """Return a reader of pictures of any size."""
    return FORMATS["image"]({"size": "resize"}, Names([], [], {"pixels": (3, 8, 8)}), None)


def sounds() -> Decoder:
    """Return a reader of sounds of any length."""
    return FORMATS["sound"]({"rate": 8000, "length": "fit"}, Names([], [], {"samples": (300,)}), None)


def noise(chance: random.Random) -> Image.Image:
    return Image.frombytes("RGB", (16, 16), chance.randbytes(3 * 256))


def saved(picture: Image.Image, kind: str, **told: object) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **told)
    return data.getvalue()


def of_png(chance: random.Random) -> bytes:
    """Return a PNG whose checksums are right: what is behind them is changed."""
    if chance.random() < 0.5:
        return bytes(mutated(saved(noise(chance).convert(chance.choice(("L", "P", "RGBA"))), "PNG"), chance))
    good, at = png(16, 16, chance.randbytes(3 * 256), channels=3), 8
    made = bytearray(good[:8])
    while at < len(good):
        (size,) = struct.unpack(">I", good[at : at + 4])
        name, body = good[at + 4 : at + 8], good[at + 8 : at + 8 + size]
        if chance.random() < 0.5:
            body = zlib.compress(mutated(zlib.decompress(body), chance)) if name == b"IDAT" else mutated(body, chance)
        made += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        at += size + 12
    return bytes(made)


def of_jpeg(chance: random.Random) -> bytes:
    return bytes(mutated(saved(noise(chance), "JPEG", progressive=chance.random() < 0.5), chance))


def sound_of(kind: str, subtype: str, chance: random.Random) -> bytes:
    data = io.BytesIO()
    with soundfile.SoundFile(data, "w", 8000, chance.randint(1, 2), subtype, format=kind) as file:
        # Steps and not noise: what can be told from what came before is coded so.
        file.buffer_write(STEPS[: 2400 + chance.randrange(600) * 8], "int32")
    return data.getvalue()


def of_wav(chance: random.Random) -> bytes:
    return bytes(mutated(sound_of("WAV", chance.choice(("PCM_U8", "PCM_24", "FLOAT")), chance), chance))


def of_flac(chance: random.Random) -> bytes:
    return bytes(mutated(sound_of("FLAC", chance.choice(("PCM_16", "PCM_24")), chance), chance))


KINDS: dict[str, tuple[Callable[[], Decoder], Callable[[random.Random], bytes], bytes]] = {
    "png": (pictures, of_png, png(8, 8, bytes(64))),
    "jpeg": (pictures, of_jpeg, png(8, 8, bytes(64))),
    "wav": (sounds, of_wav, sound_of("WAV", "PCM_16", random.Random(1))),
    "flac": (sounds, of_flac, sound_of("FLAC", "PCM_16", random.Random(1))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str) -> None:
    make, write, good = KINDS[kind]
    reader, chance = make(), random.Random(20261130)
    expected = reader.decode([good], 0, [])[0][0]
    rows, begun_s, deaths = 0, time.perf_counter(), list[str]()
    for _ in range(FILES // CHUNK):
        rejected: list[Rejection] = []
        records, positions = reader.decode([good, *(write(chance) for _ in range(CHUNK)), good], 0, rejected)
        assert (records[0], records[-1]) == (expected, expected)
        assert sorted([*positions, *(each.position for each in rejected)]) == list(range(CHUNK + 2))
        assert all(each.reason.startswith("expected ") and ", got " in each.reason for each in rejected)
        deaths += [each.reason for each in rejected if "the process" in each.reason]
        rows += len(records) - 2
    print(f"\n{kind}: {rows} rows, {FILES - rows} rejected, {time.perf_counter() - begun_s:.0f} s, deaths: {deaths}")
    assert 0 < rows < FILES
