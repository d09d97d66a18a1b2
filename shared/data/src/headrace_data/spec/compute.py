"""On what a network is trained, and in which numbers: `train.compute`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.scalars import PositiveInt
from headrace_data.spec.section import Section

_OF_BLOCKS: Final = ("encoder", "python")
"""Kinds of networks that are made of blocks."""
_OF_ONE_PROCESS: Final = {
    "residual": "its batch normalisation needs whole batches",
    "imported": "a file's layers may need whole batches",
}
"""Kinds of networks that one process learns, and why."""
_SPREAD: Final = {"fsdp": ("mlp", "cnn", "factorization", "encoder"), "tensor": ("mlp", "encoder")}
"""Kinds of networks whose weights each strategy can spread."""
_STRATEGY: Final = ("train", "compute", "strategy")
_PROCESSES: Final = ("train", "compute", "processes")


class Compute(Section):
    """On what a network is trained. The version says what it was.

    Another device, precision or number of threads sums in another order: the same spec then gives another version.
    """

    device: Literal["auto", "cpu", "cuda"] = pydantic.Field(
        default="auto",
        description="auto: the GPU where there is one. cuda: a run without one fails before it begins. Whatever it is, "
        "the version is exported and measured on the CPU.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = pydantic.Field(
        default="fp32",
        description="bf16: layers compute in 16 bits where that suits them; weights, the loss and validation stay in "
        "32. fp16: the same with more digits and fewer exponents, for GPUs without bf16; the loss is scaled so that "
        "small gradients stay, and a step whose gradients overflow is left out.",
    )
    threads: PositiveInt | Literal["auto"] = pydantic.Field(
        default=1, description="Threads of the CPU, at most as many as the trainer has cores. auto: all of these."
    )
    compile: bool = pydantic.Field(
        default=False,
        exclude_if=lambda value: not value,  # so that specs keep the digests they had before there was compile
        description="Whether PyTorch compiles the network for training: half a minute and more at the start, for steps "
        "that take less. The trainer needs a C++ compiler, for a GPU Triton. What is exported is the same network.",
    )
    recompute: bool = pydantic.Field(
        default=False,
        exclude_if=lambda value: not value,  # as for compile
        description="For encoder and python: whether the inner values of blocks are computed anew for the gradients "
        "and not kept (gradient checkpointing): less memory for about a third more time, and the same version. Blocks "
        "are members of nn.ModuleList or nn.Sequential that have several layers and no batch normalisation.",
    )
    processes: PositiveInt = pydantic.Field(
        default=1,
        exclude_if=lambda value: value == 1,  # as for compile
        description="Processes that train together, each a part of every batch, by PyTorch's torchrun: at most as many "
        "as the trainer has cores, or GPUs where it has some, of which each has one; an installation may give them "
        "machines, or pods, of their own. Their version is that of one process up to rounding, where nothing is "
        "silenced by dropout. threads are those of each.",
    )
    strategy: Literal["ddp", "fsdp", "tensor"] = pydantic.Field(
        default="ddp",
        exclude_if=lambda value: value == "ddp",  # as for compile
        description="ddp: each process has all weights, and learns from a part of every batch. fsdp: the same, with a "
        "part of the weights and of what the optimiser keeps of them in each, for mlp, cnn, factorization and encoder. "
        "tensor: each computes a part of every layer for whole batches, for mlp whose widths, and encoder (tune: full) "
        "whose heads, the processes can share evenly.",
    )


def blocks_are_recomputed_where_there_are_some(draft: Draft) -> Iterator[Finding]:
    """Demand a network of blocks, and one that learns, for `recompute`."""
    place, kind = ("train", "compute", "recompute"), draft.at("train", "network", "kind")
    if draft.at(*place) is not True or not isinstance(kind, str):
        return
    if kind not in _OF_BLOCKS:
        yield place, f"expected a network of kind {' or '.join(_OF_BLOCKS)}, which has blocks, got {kind}"
    elif draft.at("train", "network", "tune") == "frozen":
        yield place, "expected tune: lora or full beside it, got frozen: the encoder's blocks have no gradients"


def processes_learn_apart(draft: Draft) -> Iterator[Finding]:
    """Demand, for several processes, a network and a task that learn from parts of a batch, and one training."""
    processes, kind = draft.at(*_PROCESSES), draft.at("train", "network", "kind")
    if not isinstance(processes, int) or processes < 2:
        return
    if reason := _OF_ONE_PROCESS.get(kind if isinstance(kind, str) else ""):
        yield _PROCESSES, f"expected 1 for a network of kind {kind} ({reason}), got {processes}"
    elif draft.at("train", "network", "tune") == "frozen":
        yield _PROCESSES, f"expected 1 beside tune: frozen, whose head alone learns, got {processes}"
    if draft.at("train", "task") == "ranking":
        yield _PROCESSES, f"expected 1 for task ranking, whose groups are learned from as a whole, got {processes}"
    if draft.at("train", "tune") is not None:
        yield _PROCESSES, f"expected 1 beside train.tune, whose trials are one process each, got {processes}"


def weights_can_be_spread(draft: Draft) -> Iterator[Finding]:
    """Demand a network that a strategy can spread, over several processes, and nothing that keeps it from it."""
    strategy, kind = draft.at(*_STRATEGY), draft.at("train", "network", "kind")
    kinds = _SPREAD.get(strategy if isinstance(strategy, str) else "")
    if kinds is None or not isinstance(kind, str):
        return
    if draft.at(*_PROCESSES) in (None, 1):
        yield _STRATEGY, f"{strategy} expects processes of at least 2 beside it, got one"
    if kind not in kinds:
        yield _STRATEGY, f"{strategy} expects a network of kind {', '.join(kinds)}, got {kind}"
    elif strategy == "tensor" and kind == "encoder" and draft.at("train", "network", "tune") != "full":
        yield _STRATEGY, "tensor expects tune: full beside it, got differences, which are too small to be shared"
    for key in ("compile", "recompute"):
        if draft.at("train", "compute", key) is True:
            yield (*_STRATEGY[:2], key), f"expected strategy: ddp beside it, got {strategy}"
