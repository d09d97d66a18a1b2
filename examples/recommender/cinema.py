"""Visitors who were shown films, generated: the same ones every time.

A film has shares of six genres and is seen more or less by everybody. A visitor has a taste for each genre, of which a
noisy profile is known, and watches a film by a chance that rises with both. No visitor and no film is real.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

SEED: Final = 20_260_301
GENRES: Final = 6
FILMS: Final = 500
SHOWN: Final = 60
"""Films that each visitor was shown."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Visit:
    """What one visitor was shown."""

    profile: Array
    """[genres] what is known of the taste."""
    taste: Array
    """[genres] what it is: nobody knows it."""
    films: Array
    """[shown] their numbers."""
    watched: Array
    """[shown] bool."""


class Cinema:
    """Films, and visitors without end."""

    def __init__(self, seed: int = SEED) -> None:
        self._random = np.random.default_rng(seed)
        self.genres = self._random.dirichlet(np.full(GENRES, 0.4), FILMS)
        """[films, genres] shares that sum to 1."""
        self.fame = self._random.normal(size=FILMS)
        """[films] how much each is seen by everybody."""

    def visits(self) -> Iterator[Visit]:
        """Yield one visitor after another."""
        random = self._random
        while True:
            taste = random.normal(0.0, 2.2, GENRES)
            films = random.choice(FILMS, SHOWN, replace=False)
            watched = random.random(SHOWN) < self.chances(taste, films)
            yield Visit(taste + random.normal(0.0, 0.8, GENRES), taste, films, watched)

    def chances(self, taste: Array, films: Array) -> Array:
        """Return the chance of each film to be watched, [films]: no order is better than the one by these."""
        wish = 1.5 * self.genres[films] @ taste + 0.8 * self.fame[films] - 3.6
        chances: Array = 1 / (1 + np.exp(-wish))
        return chances

    def features(self, profile: Array, films: Array) -> dict[str, Array]:
        """Return what a model is called with for one visitor and some films."""
        return {
            "profile": np.tile(profile.round(4), (len(films), 1)).astype(np.float32),
            "genres": self.genres[films].round(4).astype(np.float32),
            "fame": self.fame[films].round(4).astype(np.float32),
        }
