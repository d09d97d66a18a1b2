"""What a reader of files gives: a model of prepared rows, and how it is written as ONNX."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from headrace_learning.bodies import Body
from headrace_learning.errors import NotLearnable

ROWS_TRIED = 32
"""Rows that an import answers before it is used."""


class Core(nn.Module, ABC):
    """A model from a file: rows [batch, *shape] float32 -> [batch, outputs] float32."""

    subject: str
    """What errors call it."""
    shape: tuple[int, ...]
    """Shape of one row."""
    outputs: int
    """Numbers that answer a row."""
    answers: str | None
    """`logits` or `probabilities`, where the file tells."""
    libraries: tuple[str, ...] = ()
    """Packages that it was read with."""

    @abstractmethod
    def body(self) -> Body:
        """Return it as an ONNX graph, as it is now and in evaluation mode."""


@contextmanager
def refused(subject: str) -> Iterator[None]:
    """Say of whatever the libraries raise within the block that the file is not as it should be.

    Nothing else is read there, and a file that was made to mean no good finds errors that nobody has listed.
    """
    try:
        yield
    except (NotLearnable, MemoryError):
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise NotLearnable(f"{subject}: expected a model that can be read, got {told}") from error


def sample_rows(shape: Sequence[int]) -> torch.Tensor:
    """Return rows to try an import with, always the same: normal numbers, [rows, *shape] float32."""
    return torch.randn((ROWS_TRIED, *shape), generator=torch.Generator().manual_seed(0))


def found_answers(answers: torch.Tensor, subject: str) -> str:
    """Return whether answers to `sample_rows`, [rows, outputs], are `probabilities` or `logits`.

    Raise `NotLearnable` where one output could be either.
    """
    shares = bool(((answers >= 0) & (answers <= 1)).all())
    if answers.shape[1] > 1:
        return (
            "probabilities"
            if shares and torch.allclose(answers.sum(dim=1), torch.ones(len(answers)), atol=1e-3)
            else "logits"
        )
    if shares:
        raise NotLearnable(
            f"{subject}: expected to tell logits from probabilities, got one output that is always between 0 and 1; "
            "set train.network.answers"
        )
    return "logits"


@torch.no_grad()
def tried(core: Core) -> torch.Tensor:
    """Return what a model answers to `sample_rows`, [rows, outputs]. Raise `NotLearnable` where it has no answer."""
    core.eval()
    with refused(core.subject):
        answers: torch.Tensor = core(sample_rows(core.shape))
    if tuple(answers.shape) != (ROWS_TRIED, core.outputs) or not bool(torch.isfinite(answers).all()):
        raise NotLearnable(
            f"{core.subject}: expected finite answers [{ROWS_TRIED}, {core.outputs}] to rows of normal numbers, got "
            f"others, {list(answers.shape)}"
        )
    return answers


def known(names: Collection[object], most: int = 20) -> str:
    """Return names for a message."""
    listed = list(map(str, names))
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
