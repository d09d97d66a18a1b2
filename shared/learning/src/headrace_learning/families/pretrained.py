"""Models of language that others have trained: a folder as Hugging Face has it, read and checked.

Of its configuration only sizes are taken, and of its weights only safetensors: nothing in a folder is ever run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from headrace_data.spec import EncoderNetwork
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.families.bert_graph import ACTIVATIONS
from headrace_learning.folders import CONFIG, TOKENIZER, WEIGHTS, StoredFolder
from headrace_learning.libraries import library
from headrace_learning.training.ports import Artifacts

_SIZES: Final = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_SHARES: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps")
_LAST: Final = "encoder.layer.{}.output.dense.weight"


@dataclass(frozen=True)
class Pretrained:
    """A BERT of others."""

    config: Mapping[str, Any]
    """Its sizes, by their names in `config.json`."""
    tensors: Mapping[str, torch.Tensor]
    """Its weights by name, as transformers' `BertModel` calls them."""
    tokenizer: str
    """The JSON of its tokenizer."""

    @staticmethod
    def read(section: EncoderNetwork, artifacts: Artifacts) -> "Pretrained":
        """Read the folder that a spec names. Raise `NotLearnable` for one that is none of a BERT."""
        folder = StoredFolder.of(section, artifacts)
        try:
            config = _checked(json.loads(folder.read(CONFIG)))
            tokenizer = folder.read(TOKENIZER).decode()
        except ValueError as error:
            raise NotLearnable(f"train.network.digest: expected {CONFIG} and {TOKENIZER} as JSON ({error})") from error
        return Pretrained(config, _tensors(folder.read(WEIGHTS), config), tokenizer)

    @cached_property
    def numbers(self) -> int:
        """How many numbers its weights are."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def encoder(self) -> nn.Module:
        """Return it as transformers' `BertModel`, with its weights."""
        transformers: Any = library("transformers", "encoder")
        model: nn.Module = transformers.BertModel(transformers.BertConfig(**self.config), add_pooling_layer=False)
        wanted = model.state_dict()
        for name, tensor in wanted.items():
            _require_shape(self.tensors, name, tuple(tensor.shape))
        # The same memory: of what is not tuned there is no second copy.
        model.load_state_dict({name: self.tensors[name] for name in wanted}, assign=True)
        model.requires_grad_(True)
        return model


def _checked(plain: Any) -> dict[str, Any]:
    """Return the sizes of a configuration, each of them a number that can be one."""
    if not isinstance(plain, dict) or plain.get("model_type") != "bert":
        given = plain.get("model_type") if isinstance(plain, dict) else None
        raise NotLearnable(f"train.network.digest: expected {CONFIG} of model_type bert, got {given!r}")
    if (embedding := plain.get("position_embedding_type") or "absolute") != "absolute":
        raise NotLearnable(f"train.network.digest: expected absolute positions in {CONFIG}, got {embedding!r}")
    activation = plain.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise NotLearnable(
            f"train.network.digest: expected hidden_act among {', '.join(ACTIVATIONS)} in {CONFIG}, got {activation!r}"
        )
    sizes: dict[str, Any] = {name: plain.get(name) for name in _SIZES}
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**24:
            raise NotLearnable(f"train.network.digest: expected {name} above 0 in {CONFIG}, got {size!r}")
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise NotLearnable(f"train.network.digest: expected hidden_size in equal parts for the heads, got {sizes}")
    shares = {name: plain[name] for name in _SHARES if name in plain}
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise NotLearnable(f"train.network.digest: expected {name} from 0 to 1 in {CONFIG}, got {share!r}")
    return {**sizes, **shares, "hidden_act": activation}


def _tensors(data: bytes, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights as float32, and see that they are about as many as the sizes ask for, before all is built."""
    try:
        found = {name.removeprefix("bert."): tensor for name, tensor in safetensors.torch.load(data).items()}
    except safetensors.SafetensorError as error:
        raise NotLearnable(f"train.network.digest: expected safetensors as {WEIGHTS} ({error})") from error
    for name, shape in (
        ("embeddings.word_embeddings.weight", (config["vocab_size"], config["hidden_size"])),
        ("embeddings.position_embeddings.weight", (config["max_position_embeddings"], config["hidden_size"])),
        ("embeddings.token_type_embeddings.weight", (config["type_vocab_size"], config["hidden_size"])),
        (_LAST.format(config["num_hidden_layers"] - 1), (config["hidden_size"], config["intermediate_size"])),
    ):
        _require_shape(found, name, shape)
    return {
        name: tensor.to(torch.float32)
        for name, tensor in found.items()
        if name.startswith(("embeddings.", "encoder.")) and tensor.is_floating_point()
    }


def _require_shape(tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> None:
    given = tuple(tensors[name].shape) if name in tensors else None
    if given != shape:
        raise NotLearnable(
            f"train.network.digest: expected {WEIGHTS} with {name} of shape {list(shape)}, as {CONFIG} says, got "
            f"{'none' if given is None else list(given)}"
        )
