"""Texts of which some tokens are hidden in each epoch, so that a network leans less on single words."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import torch
from headrace_engines.tokens import NO_TOKEN, Tokenizer

from headrace_learning.errors import NotLearnable
from headrace_learning.training.randomness import seed_for
from headrace_learning.training.rows import Rows, Source

_HIDING: Final = ("[MASK]", "[UNK]")
"""What stands for a token that is hidden: the first that a tokenizer has."""


@dataclass(frozen=True)
class WithHidden:
    """Rows of tokens, [length] float32, of which a share is hidden: a function of the seed, the epoch and the place."""

    source: Source
    share: float
    hidden: int
    """The number that stands for what is hidden."""
    frame: torch.Tensor
    """Numbers of tokens that are never hidden."""

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int, seed: int, epoch: int) -> Generator[Rows, None, None]:
        """Yield each row once, as the source does, with other tokens hidden in each epoch."""
        with closing(self.source.batches(size, seed, epoch)) as batches:
            for number, rows in enumerate(batches):
                generator = torch.Generator().manual_seed(seed_for(f"tokens {number}", seed, epoch))
                chosen = torch.rand(rows.inputs.shape, generator=generator) < self.share
                words = (rows.inputs != NO_TOKEN) & ~torch.isin(rows.inputs, self.frame)
                yield Rows(rows.inputs.masked_fill(chosen & words, self.hidden), rows.targets)

    def chunks(self) -> Iterator[Rows]:
        """Yield each row as it is."""
        return self.source.chunks()


def with_hidden(source: Source, share: float, tokenizer: Tokenizer) -> WithHidden:
    """Hide a share of the tokens of each text. Raises `NotLearnable` for a tokenizer that has nothing for it."""
    numbers = [number for token in _HIDING if (number := tokenizer.number(token)) is not None]
    if not numbers:
        raise NotLearnable(
            f"train.augment.tokenDropout: expected a tokenizer with {' or '.join(_HIDING)}, got one with neither"
        )
    return WithHidden(source, share, numbers[0], torch.tensor(tokenizer.frame, dtype=torch.float32))
