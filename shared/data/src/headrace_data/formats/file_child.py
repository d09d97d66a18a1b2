"""The process that reads files: what hostile bytes may do, they do in here. See `files` for the other side.

It sees no more than the bytes of files, and has bounds that the kernel keeps: of memory, and of processor time for each
file. Standard input has requests, each the number of files in four bytes and then the files, each behind its size in
four; standard output has an answer for each file: the sizes of a JSON object and of a body, four bytes each, and both.
All numbers are big-endian. Each answer is written as soon as it is known, so that the parent knows the file in hand.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

LIMIT_S: Final = 5.0
"""Seconds of the processor that one file may take: SIGPROF ends the process."""
MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Bytes of memory that a file may take, beyond what the process has when it begins."""
MOST_PIXELS: Final = 2**24
"""Pixels of the largest picture, which is looked at before it is unpacked: 4096 by 4096."""
MOST_CHANNELS: Final = 8
"""Channels of a sound."""
REASON: Final = "reason"
"""Key of an answer: why a file cannot be read."""

_MODES: Final = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"))
"""Kinds of pixels with 8 bits or less for each channel, by Pillow's names."""
_SOUNDS: Final = frozenset(("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"))
"""Kinds of samples, by libsndfile's names."""
_SHOWN: Final = 200

Read = Callable[[bytes], tuple[dict[str, Any], bytes]]
"""Returns what there is to know of a file, and its body. Raises Unreadable, or whatever a library does."""


class Unreadable(Exception):
    """A file is none, or another than was declared; the message says what was expected and what came."""


def image_reader(told: Mapping[str, Any]) -> Read:
    """Return what reads PNG and JPEG: a byte for each value, as `told` by height, width, channels, planes, resize."""
    from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # Looked at below, with a text of our own.
    kinds = (PngImagePlugin.PngImageFile.format, JpegImagePlugin.JpegImageFile.format)
    wanted = (told["width"], told["height"])

    def read(data: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            picture: Image.Image = Image.open(io.BytesIO(data), formats=kinds)
        except UnidentifiedImageError:
            raise Unreadable("expected a picture in PNG or JPEG, got bytes that are none") from None
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise Unreadable(f"expected a picture of at most {MOST_PIXELS} pixels, got {width} by {height}")
        if (width, height) != wanted and not told["resize"]:
            raise Unreadable(
                f"expected a picture {wanted[0]} wide and {wanted[1]} high, got one {width} wide and {height} high"
            )
        if picture.mode not in _MODES:
            raise Unreadable(f"expected a picture of 8 bits a channel, got one of mode {picture.mode}")
        picture = picture.convert("RGB" if told["channels"] == 3 else "L")
        if picture.size != wanted:
            picture = picture.resize(wanted, Image.Resampling.BILINEAR)
        bands = picture.split() if told["planes"] else [picture]
        return {"width": width, "height": height}, b"".join(band.tobytes() for band in bands)

    return read


def sound_reader(told: Mapping[str, Any]) -> Read:
    """Return what reads WAV and FLAC: float32 in little-endian, channel by channel, as `told` by samples, rate, fit."""
    import soundfile

    def read(data: bytes) -> tuple[dict[str, Any], bytes]:
        # Before the library looks, which knows many other kinds.
        if not (data[:4] == b"fLaC" or (data[:4], data[8:12]) == (b"RIFF", b"WAVE")):
            raise Unreadable("expected a sound in WAV or FLAC, got bytes that are none")
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate, channels, frames = sound.samplerate, sound.channels, sound.frames
            if sound.subtype not in _SOUNDS or channels > MOST_CHANNELS:
                raise Unreadable(
                    f"expected samples of PCM or floats in at most {MOST_CHANNELS} channels, got {sound.subtype} "
                    f"in {channels}"
                )
            if rate != told["rate"]:
                raise Unreadable(f"expected a sound of {told['rate']} samples a second, got {rate}")
            if frames != told["samples"] and not told["fit"]:
                raise Unreadable(f"expected a sound of {told['samples']} samples, got {frames}")
            body = bytes(sound.buffer_read(min(frames, told["samples"]), dtype="float32"))
        read_frames = len(body) // (4 * channels)
        if read_frames != min(frames, told["samples"]):
            raise Unreadable(f"expected a sound of {frames} samples, as its beginning says, got {read_frames}")
        return {"rate": rate, "seconds": frames / rate, "channels": channels}, body

    return read


READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Read]]] = {"image": image_reader, "sound": sound_reader}
"""What reads files, by the kind of their format."""


def main(arguments: Sequence[str], readers: Mapping[str, Callable[[Mapping[str, Any]], Read]] = READERS) -> None:
    """Answer requests until standard input ends.

    The arguments are the kind of files, what its reader is told, in JSON, and how many seconds of the processor a file
    may take.
    """
    kind, told, limit_s = arguments
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Nothing that a library prints is an answer.
    read = readers[kind](json.loads(told))
    _bound()
    answers.write(b"\1")
    answers.flush()
    while head := sys.stdin.buffer.read(4):
        for data in [_file(sys.stdin.buffer) for _ in range(*struct.unpack(">I", head))]:
            meta, body = _answer(read, data, float(limit_s))
            text = json.dumps(meta).encode()
            answers.write(struct.pack(">II", len(text), len(body)) + text + body)
            answers.flush()


def _file(source: BinaryIO) -> bytes:
    (size,) = struct.unpack(">I", source.read(4))
    return source.read(size)


def _answer(read: Read, data: bytes, limit_s: float) -> tuple[dict[str, Any], bytes]:
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        return read(data)
    except Unreadable as error:
        return {REASON: str(error)}, b""
    except MemoryError:
        return {REASON: f"expected a file that {MEMORY_BYTES >> 20} MB of memory suffice for, got a larger one"}, b""
    except Exception as error:
        # Libraries raise anything for bytes that are broken.
        told = " ".join(f"{type(error).__name__}: {error}".split())[:_SHOWN]
        return {REASON: f"expected a whole file, got a broken one: {told}"}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _bound() -> None:
    """Let the kernel refuse memory beyond the bound, and every byte to a file.

    When it is out of memory itself, it ends this process before others.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        taken = int(sizes.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, taken + MEMORY_BYTES))


if __name__ == "__main__":
    main(sys.argv[1:])
