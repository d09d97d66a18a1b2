"""A network that writes: what it thinks of each token of a text, given those before it."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from headrace_learning.language_models.base import LanguageBase
from headrace_learning.language_models.packing import Packed, packed
from headrace_learning.language_models.shape import Shape
from headrace_learning.libraries import library

LEARNED: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices of a layer, each of which gets a difference (Dettmers et al., "QLoRA", NeurIPS 2023, section 4)."""
_CLASSES: Final = {"llama": ("LlamaConfig", "LlamaModel"), "qwen2": ("Qwen2Config", "Qwen2Model")}
_MEASURED_TOKENS: Final = 4096
"""Tokens that a pass without gradients takes at once."""
_TOLD_AT_ONCE: Final = 256
"""Tokens of which the thoughts of all that may come next are in memory at once: 50,000 of each."""


class LanguageNetwork(nn.Module):
    """Rows as `packed` takes them -> [rows, 2] float32.

    That are the nats of what is learned of each row, and how many tokens of that are the likeliest.
    """

    def __init__(self, shape: Shape, body: nn.Module, tell: nn.Linear | None) -> None:
        """`body` is transformers' model without its head; `tell` that, None where tokens are told as they are read."""
        super().__init__()
        self.shape = shape
        self.body = body
        self.tell = tell

    @staticmethod
    def of(base: LanguageBase) -> LanguageNetwork:
        """Return a network with the weights of others, in the same memory."""
        transformers: Any = library("transformers", "generation")
        config, model = (getattr(transformers, name) for name in _CLASSES[base.shape.architecture])
        body: nn.Module = model(config(**base.shape.config(), attn_implementation="sdpa"))
        held = {name.removeprefix("model."): each for name, each in base.tensors.items() if name.startswith("model.")}
        body.load_state_dict(held, assign=True)
        tell = None
        if not base.shape.tied:
            tell = nn.Linear(base.shape.width, base.shape.vocabulary, bias=False)
            tell.load_state_dict({"weight": base.tensors["lm_head.weight"]}, assign=True)
        return LanguageNetwork(base.shape, body, tell).requires_grad_(True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what `LanguageNetwork` says."""
        told = torch.zeros(len(inputs), 2, device=inputs.device)
        for some in packed(inputs, inputs.numel() if torch.is_grad_enabled() else _MEASURED_TOKENS):
            nats, right = self._told(some)
            told = told.index_add(0, some.rows, torch.stack([nats, right.to(nats.dtype)], dim=1))
        return told

    def _told(self, some: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        body: Any = self.body
        hidden = body(
            input_ids=some.tokens, attention_mask=some.mask, position_ids=some.places, use_cache=False
        ).last_hidden_state
        read = body.get_input_embeddings().weight
        weight: torch.Tensor = read if self.tell is None else self.tell.weight
        return told(hidden.flatten(0, 1)[some.predicting], weight, some.targets)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights by their names in transformers."""
        found = {f"model.{name}": each for name, each in self.body.state_dict().items()}
        return found if self.tell is None else found | {"lm_head.weight": self.tell.weight}


def told(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nats of each target, [tokens] float32, and whether it is the likeliest, [tokens] bool.

    `hidden` is [tokens, width], `weight` [vocabulary, width].
    """
    found = []
    for some, wanted in zip(torch.split(hidden, _TOLD_AT_ONCE), torch.split(targets, _TOLD_AT_ONCE), strict=True):
        if torch.is_grad_enabled() and not weight.requires_grad:
            found.append(_Told.apply(some, weight, wanted))
        elif torch.is_grad_enabled():
            found.append(checkpoint(_surprise, some, weight, wanted, use_reentrant=False))
        else:
            found.append(_surprise(some, weight, wanted))
    if not found:
        return hidden.sum(dim=1), targets >= 0
    nats, right = (torch.cat(each) for each in zip(*found, strict=True))
    return nats, right


def _surprise(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = functional.linear(hidden, weight).to(torch.float32)
    return functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=1) == targets


class _Told(torch.autograd.Function):
    """`_surprise` of a head that does not learn: gradients are made with the answers, and logits are not kept.

    As Hsu et al., "Liger Kernel" (2024), do it.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> Any:
        logits = functional.linear(hidden, weight).to(torch.float32)
        right = logits.argmax(dim=1) == targets
        log = logits.logsumexp(dim=1)
        nats = log - logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        shares = logits.sub_(log.unsqueeze(1)).exp_()
        shares[torch.arange(len(targets), device=targets.device), targets] -= 1
        ctx.save_for_backward(shares.to(weight.dtype) @ weight)
        ctx.mark_non_differentiable(right)
        return nats, right

    @staticmethod
    def backward(ctx: Any, nats: torch.Tensor, _right: torch.Tensor) -> Any:
        (gradients,) = ctx.saved_tensors
        return gradients * nats.unsqueeze(1).to(gradients.dtype), None, None
