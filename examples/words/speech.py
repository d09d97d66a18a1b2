"""Words as a synthesiser speaks them, and what an ear makes of them: logarithms of energies in bands of pitch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
VOICES = (
    *(f"m{number}" for number in range(1, 9)),
    *(f"f{number}" for number in range(1, 6)),
    *("Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee"),
    *("Marco", "Mario", "Max", "Michael", "Mike", "Pablo", "Paul", "Pedro", "Rob", "Robert", "Steph", "Zac"),
    *("anika", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "grandpa", "sandro", "victor"),
)
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp")
SEED = 1
RATE = 22_050
"""Samples a second, as espeak-ng writes them."""
HEADER_BYTES = 44
LENGTH = RATE
"""Samples of a recording: one second."""
WINDOW, HOP = 1024, 512
BANDS = 32
LOWEST_HZ, HIGHEST_HZ = 80.0, 8000.0
NOISE_DB = (5.0, 25.0)
"""By how much the word is louder than what is heard beside it."""


@dataclass(frozen=True)
class Take:
    """How a word is spoken once."""

    word: str
    voice: str
    accent: str
    words_a_minute: int
    pitch: int
    seed: int


def takes(each: int) -> Iterator[Take]:
    """Yield every word in every voice so many times, each in another manner; the same every time."""
    random = np.random.default_rng(SEED)
    for number in range(each):
        for voice in VOICES:
            for word in WORDS:
                accent = ACCENTS[number % len(ACCENTS)]
                speed, pitch, seed = (int(random.integers(*ends)) for ends in ((130, 210), (25, 75), (0, 2**31)))
                yield Take(word, voice, accent, speed, pitch, seed)


def spoken(take: Take) -> Samples:
    """Return what espeak-ng says, [samples] within -1 and 1."""
    manner = ("-v", f"{take.accent}+{take.voice}", "-s", str(take.words_a_minute), "-p", str(take.pitch))
    done = subprocess.run([_program(), *manner, "--stdout", take.word], capture_output=True, check=True)
    return np.frombuffer(done.stdout[HEADER_BYTES:], "<i2").astype(np.float64) / 2**15


def recorded(take: Take) -> Samples:
    """Return one second: the word somewhere within it, as loud as any, with noise, [samples]."""
    random = np.random.default_rng(take.seed)
    heard = spoken(take)[:LENGTH]
    heard = heard / max(float(np.abs(heard).max()), 1e-3)
    whole = np.zeros(LENGTH)
    start = int(random.integers(LENGTH - len(heard) + 1))
    whole[start : start + len(heard)] = heard
    level = float(np.sqrt(np.mean(heard**2))) * 10 ** (-random.uniform(*NOISE_DB) / 20)
    return whole + random.normal(0.0, level, LENGTH)


def spectrogram(samples: Samples) -> Samples:
    """Return the logarithms of energies, [bands, frames], in bands of equal width on the mel scale."""
    starts = range(0, len(samples) - WINDOW + 1, HOP)
    frames = np.stack([samples[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    energies = np.abs(np.fft.rfft(frames)) ** 2
    logarithms: Samples = np.log(energies @ _bands() + 1e-6).T
    return logarithms


def heard(some: Sequence[Take]) -> Iterator[tuple[Take, Samples]]:
    """Yield each take with its spectrogram, [bands, frames], in order. Leave where espeak-ng is missing."""
    _program()
    with ThreadPoolExecutor() as pool:
        yield from zip(some, pool.map(lambda take: spectrogram(recorded(take)), some), strict=True)


@cache
def _program() -> str:
    if (found := shutil.which("espeak-ng")) is None:
        sys.exit("expected espeak-ng, which speaks the words: install it, such as by apt-get install espeak-ng")
    return found


@cache
def _bands() -> Samples:
    """Return weights, [frequencies, bands]: triangles whose corners are equally far apart on the mel scale."""
    lowest, highest = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST_HZ, HIGHEST_HZ))
    corners = 700 * (10 ** (np.linspace(lowest, highest, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)[:, None]
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    weights: Samples = np.clip(np.minimum(rising, falling), 0, None)
    return weights
