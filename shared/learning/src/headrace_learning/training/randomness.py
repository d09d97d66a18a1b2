"""Everything random in a run, as a function of the seed and the epoch.

A run that goes on from a checkpoint therefore sees the same rows in the same order, and silences the same units, as one
that was never stopped: no generator's state has to be kept.
"""

import hashlib
import os

import torch


def make_deterministic(threads: int = 1) -> None:
    """Make every operation of this process give the same result for the same input.

    With one thread on any machine: how sums are divided among threads changes their last digits.
    """
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when a GPU is first used
    # The same as use_deterministic_algorithms(True), which would import a compiler to tell it, for seconds.
    torch.set_deterministic_debug_mode("error")


def seed_for(purpose: str, seed: int, epoch: int) -> int:
    """Return the seed of one purpose in one epoch: 63 bits of blake2b."""
    digest = hashlib.blake2b(f"{purpose}|{seed}|{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def order_of_rows(rows: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the order in which an epoch sees the rows: a permutation, [rows] int64."""
    generator = torch.Generator().manual_seed(seed_for("order", seed, epoch))
    return torch.randperm(rows, generator=generator)


def seed_weights(seed: int) -> None:
    """Seed PyTorch's global generator for the first weights of a network."""
    torch.manual_seed(seed_for("weights", seed, 0))


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed PyTorch's global generator, which dropout draws from, for one epoch of one of the processes that train."""
    torch.manual_seed(seed_for(f"epoch of {rank}" if rank else "epoch", seed, epoch))
