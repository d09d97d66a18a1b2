"""Texts of different lengths side by side in one sequence, none of which sees another: no time goes into padding.

Krell, Kosec, Perez and Fitzgibbon, "Efficient Sequence Packing without Cross-contamination" (2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

_LEAST_WIDTH: Final = 256
"""Tokens of a sequence, where the texts are shorter: attention looks at pairs, of which longer ones have many."""


@dataclass(frozen=True)
class Packed:
    """Some sequences."""

    tokens: torch.Tensor
    """[sequences, width] int64; 0 where there is none."""
    places: torch.Tensor
    """Each token's place in its own text, [sequences, width] int64."""
    mask: torch.Tensor
    """Which token sees which, [sequences, 1, width, width] bool."""
    predicting: torch.Tensor
    """The tokens behind which one is learned, by their places in the flattened sequences, [learned] int64."""
    targets: torch.Tensor
    """The token that is learned there, [learned] int64."""
    rows: torch.Tensor
    """The row of each of these, [learned] int64."""


def packed(inputs: torch.Tensor, most_tokens: int) -> Iterator[Packed]:
    """Yield the sequences of some rows, so many tokens at a time at most, but for one longer sequence.

    `inputs` are [rows, 1 + length] integers: where what is learned begins, from 1 on, then the tokens, and -1 behind
    the last.
    """
    lengths = (inputs[:, 1:] >= 0).sum(dim=1).tolist()
    width = max(_LEAST_WIDTH, max(lengths, default=0))
    bins = list(_bins(lengths, width))
    width = max((sum(lengths[row] for row in rows) for rows in bins), default=1)
    at_once = max(most_tokens // width, 1)
    for start in range(0, len(bins), at_once):
        yield _side_by_side(inputs, lengths, bins[start : start + at_once], width)


def _bins(lengths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Yield rows that fit into one sequence, each row once: the longest first, each where there is room for it."""
    bins: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not lengths[row]:
            continue
        place = next((place for place, left in enumerate(room) if left >= lengths[row]), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(width)
        bins[place].append(row)
        room[place] -= lengths[row]
    yield from bins


def _side_by_side(inputs: torch.Tensor, lengths: Sequence[int], bins: Sequence[list[int]], width: int) -> Packed:
    device = inputs.device
    tokens, places, texts = torch.zeros(3, len(bins), width, dtype=torch.int64, device=device).unbind()
    predicting, targets, owners = [], [], []
    for sequence, rows in enumerate(bins):
        at = 0
        for number, row in enumerate(rows, 1):
            end = at + lengths[row]
            own = inputs[row, 1 : 1 + lengths[row]].to(torch.int64)
            begin = int(inputs[row, 0])
            tokens[sequence, at:end] = own
            places[sequence, at:end] = torch.arange(lengths[row], device=device)
            texts[sequence, at:end] = number
            predicting.append(torch.arange(at + begin - 1, end - 1, device=device) + sequence * width)
            targets.append(own[begin:])
            owners.append(torch.full((max(lengths[row] - begin, 0),), row, device=device))
            at = end
    same = texts.unsqueeze(2) == texts.unsqueeze(1)
    before = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    return Packed(
        tokens, places, (same & before).unsqueeze(1), *(torch.cat(each) for each in (predicting, targets, owners))
    )
