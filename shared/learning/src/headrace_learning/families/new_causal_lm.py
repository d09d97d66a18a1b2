"""A model of language that knows nothing yet: random weights, and words that are made of the training split.

Everything else is `causal_lm`'s. Weights are drawn as GPT-2's are (Radford et al., 2019): of a deviation of 0.02.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from headrace_data.spec import NewLanguageModel

from headrace_learning.families.causal_lm import CausalLanguage
from headrace_learning.families.family import Labelled
from headrace_learning.language_models.base import LanguageBase, shapes_of
from headrace_learning.language_models.shape import BLOCK, Shape
from headrace_learning.language_models.words import trained_words
from headrace_learning.training.ports import Artifacts

_DEVIATION = 0.02
_EPSILON, _THETA = 1e-5, 10_000.0


class NewCausalLanguage(CausalLanguage):
    """Writes answers. It has to be acquainted with what it reads."""

    def opened(self, section: Any, artifacts: Artifacts) -> "NewCausalLanguage":
        """Return the family as it is: it begins with nothing."""
        return self

    def acquainted(self, section: NewLanguageModel, seed: int, rows: Callable[[], Labelled]) -> CausalLanguage:
        """Return the family with words of the training split, and the seed's weights."""
        words = trained_words(_texts(rows()), section.vocabulary)
        inner = -(-section.width * 8 // 3 // BLOCK) * BLOCK
        shape = Shape(
            architecture="llama",
            width=section.width,
            inner=inner,
            layers=section.layers,
            heads=section.heads,
            groups=section.heads,
            vocabulary=len(words.tokens),
            places=section.length,
            epsilon=_EPSILON,
            theta=_THETA,
            tied=True,
        )
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: torch.ones(sizes) if len(sizes) == 1 else torch.randn(sizes, generator=generator) * _DEVIATION
            for name, sizes in shapes_of(shape).items()
        }
        return CausalLanguage(LanguageBase(shape, tensors, words), section.length)


def _texts(rows: Labelled) -> Iterator[str]:
    for columns, answers in rows:
        for values in (*columns.values(), answers):
            if values.dtype.kind == "O":
                yield from (text for text in values if text)


FAMILY = NewCausalLanguage()
