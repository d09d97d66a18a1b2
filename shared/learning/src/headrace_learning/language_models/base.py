"""A model of language of others, read from a folder as Hugging Face has it, or from one GGUF file.

Only sizes are taken of a configuration, and of weights only safetensors and GGUF: nothing in a folder is ever run, but
for the chat template, which is Jinja's and rendered in its sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from headrace_data.spec import CausalLanguageModel

from headrace_learning.errors import NotLearnable
from headrace_learning.folders import CONFIG, TOKENIZER, WEIGHTS, StoredFolder
from headrace_learning.language_models.gguf_files import names_of, read_gguf
from headrace_learning.language_models.shape import Shape
from headrace_learning.language_models.words import PLAIN_TEMPLATE, Words, read_tokenizer
from headrace_learning.training.ports import Artifacts

GGUF_FILE: Final = "model.gguf"
"""The one file of a folder that was imported from GGUF."""
SETTINGS, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
"""Files of a folder that are read where they are there."""


@dataclass(frozen=True)
class LanguageBase:
    """What a model begins with."""

    shape: Shape
    tensors: Mapping[str, torch.Tensor]
    """Float32, by their names in transformers."""
    words: Words

    @staticmethod
    def read(section: CausalLanguageModel, artifacts: Artifacts) -> LanguageBase:
        """Read the files that a spec names. Raise `NotLearnable` for what cannot be learned from."""
        folder = StoredFolder.of(section, artifacts)
        base = _of_gguf(folder) if GGUF_FILE in folder.files else _of_folder(folder)
        if section.length > base.shape.places:
            raise NotLearnable(
                f"train.network.length: expected at most {base.shape.places} tokens, got {section.length}"
            )
        return base

    def __post_init__(self) -> None:
        if len(self.words.tokens) > self.shape.vocabulary:
            raise NotLearnable(
                f"train.network.digest: expected a tokenizer of at most {self.shape.vocabulary} tokens, which the "
                f"model knows, got {len(self.words.tokens)}"
            )
        for name, shape in shapes_of(self.shape).items():
            given = tuple(self.tensors[name].shape) if name in self.tensors else None
            if given != shape:
                raise NotLearnable(
                    f"train.network.digest: expected weights with {name} of shape {list(shape)}, as its sizes say, got "
                    f"{'none' if given is None else list(given)}"
                )

    @cached_property
    def numbers(self) -> int:
        """How many numbers its weights are."""
        return sum(tensor.numel() for tensor in self.tensors.values())


def shapes_of(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the sizes of each tensor, by its name in transformers."""
    keys = shape.groups * shape.head_width
    ends = {
        "q_proj.weight": (shape.width, shape.width),
        **dict.fromkeys(("k_proj.weight", "v_proj.weight"), (keys, shape.width)),
        **dict.fromkeys(("k_proj.bias", "v_proj.bias"), (keys,)),
        "o_proj.weight": (shape.width, shape.width),
        **dict.fromkeys(("gate_proj.weight", "up_proj.weight"), (shape.inner, shape.width)),
        "down_proj.weight": (shape.width, shape.inner),
        **dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (shape.vocabulary, shape.width)),
    }
    return {
        name: next((found for end, found in ends.items() if name.endswith(end)), (shape.width,))
        for name in names_of(shape)
    }


def _of_gguf(folder: StoredFolder) -> LanguageBase:
    shape, tensors, words = read_gguf(folder.read(GGUF_FILE))
    if not words.template:
        words = replace(words, template=PLAIN_TEMPLATE)
    return LanguageBase(shape, {name: torch.from_numpy(values) for name, values in tensors.items()}, words)


def _of_folder(folder: StoredFolder) -> LanguageBase:
    config = _json(folder, CONFIG)
    shape = Shape.of_config(config)
    told = _json(folder, SETTINGS) if SETTINGS in folder.files else {}
    if TEMPLATE in folder.files:
        told = {**told, "chat_template": folder.read(TEMPLATE).decode(errors="replace")}
    plain = _json(folder, TOKENIZER)
    words = read_tokenizer(plain, told)
    return LanguageBase(shape, _weights(folder, shape), words)


def _json(folder: StoredFolder, name: str) -> Any:
    try:
        return json.loads(folder.read(name))
    except (ValueError, RecursionError) as error:
        raise NotLearnable(f"train.network.digest: expected {name} as JSON ({error})") from error


def _weights(folder: StoredFolder, shape: Shape) -> dict[str, torch.Tensor]:
    try:
        found = safetensors.torch.load(folder.read(WEIGHTS))
    except safetensors.SafetensorError as error:
        raise NotLearnable(f"train.network.digest: expected safetensors as {WEIGHTS} ({error})") from error
    return {name: found[name].to(torch.float32) for name in names_of(shape) if name in found}
