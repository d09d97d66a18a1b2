"""Sounds in WAV or FLAC: the value of `samples` has the length of the field that takes it, from -1 to 1, in mono."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from headrace_data.formats.decoding import Decoder
from headrace_data.formats.files import FileDecoder, require_library
from headrace_data.formats.schemas import SchemaInvalid

SAMPLES: Final = "samples"


def sound_form(shape: Sequence[int] | None) -> dict[str, Any]:
    """Return what a shape says of sounds. Raises SchemaInvalid where it is that of none."""
    match tuple(shape or ()):
        case (samples,) | (1, samples) | (samples, 1):
            return {SAMPLES: samples}
    got = "none" if shape is None else list(shape)
    raise SchemaInvalid(
        f"sound: expected a field that is {SAMPLES}, of shape [samples], [1, samples] or [samples, 1], got {got}"
    )


def sound_decoder(told: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Decoder:
    """Return what reads sounds. Raises SchemaInvalid, and ImportError where soundfile is not installed."""
    form = sound_form(shapes.get(SAMPLES))
    require_library("soundfile", "soundfile", "sounds")

    def row(meta: dict[str, Any], body: bytes) -> dict[str, Any]:
        channels = np.frombuffer(body, "<f4").reshape(-1, meta.pop("channels"))
        with np.errstate(all="ignore"):  # of floats that are none, which the checks reject
            samples = channels.mean(axis=1, dtype=np.float64).astype(np.float32)
        samples = np.pad(samples, (0, form[SAMPLES] - len(samples)))
        return {SAMPLES: samples.tolist(), **meta}

    return FileDecoder("sound", {**form, "rate": told["rate"], "fit": told["length"] == "fit"}, row)
