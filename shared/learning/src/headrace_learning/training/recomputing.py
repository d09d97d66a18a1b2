"""Blocks of a network whose inner values are computed anew for their gradients, in place of being kept.

Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost" (2016): a step then keeps what goes into
each block, and the inner values of one block at a time, for about a third more time. The gradients are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn

from headrace_learning.errors import NotLearnable


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks: members of the outermost nn.ModuleList and nn.Sequential that have several layers.

    One that counts its batches, as batch normalisation does, is none: it would count them twice.
    """
    if not isinstance(network, nn.ModuleList | nn.Sequential):
        return [block for child in network.children() for block in blocks_of(child)]
    found: list[nn.Module] = []
    for member in network:
        if len(list(member.modules())) > 2 and not list(member.buffers()):
            found.append(member)
        else:
            found += blocks_of(member)
    return found


@contextmanager
def recomputed(network: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Have the blocks of a network compute anew within. Raise `NotLearnable` where there is none."""
    blocks = list(dict.fromkeys(blocks_of(network))) if wanted else []  # one may be there several times
    if wanted and not blocks:
        raise NotLearnable(
            "train.compute.recompute: expected a network with members of nn.ModuleList or nn.Sequential that are made "
            "of several layers, without batch normalisation, got none"
        )
    # Imported late: it is of no use to others.
    from torch.utils.checkpoint import checkpoint

    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
