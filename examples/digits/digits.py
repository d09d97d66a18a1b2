"""The digits as they were scanned, and as a worn-out scanner would send them: turned, faint and noisy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.datasets import load_digits

Image = npt.NDArray[np.float64]

DARKEST = 16.0
ANGLE_DEGREES = (12.0, 28.0)
CONTRAST = (0.5, 0.8)
NOISE = 1.0


@dataclass(frozen=True)
class Scan:
    """One image of 8 by 8 points, 0 (paper) to 16 (ink), and the digit that it shows."""

    name: str
    """Name of the original image; disturbed copies share it."""
    pixels: Image
    digit: int


def scans() -> Iterator[Scan]:
    """Yield the 1,797 digits that ship with scikit-learn, in order."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        yield Scan(f"digit-{number:04d}", pixels, int(digit))


def disturbed(scan: Scan) -> Scan:
    """Return the scan turned by 12 to 28 degrees, at half its contrast and with noise: the same each time."""
    random = np.random.default_rng(int(scan.name.removeprefix("digit-")))
    turned = ndimage.rotate(scan.pixels, random.uniform(*ANGLE_DEGREES), reshape=False, order=1)
    faint = turned * random.uniform(*CONTRAST) + random.normal(0.0, NOISE, turned.shape)
    return Scan(scan.name, np.clip(faint, 0.0, DARKEST).round(2), scan.digit)
