"""The kinds of `train.network`: one section for each family."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.scalars import IDENTIFIER, Digest, FunctionName, PositiveInt
from headrace_data.spec.section import Section


class MlpNetwork(Section):
    """Fully connected layers over all features side by side."""

    kind: Literal["mlp"] = pydantic.Field(description="Multilayer perceptron.")
    hidden: Annotated[tuple[PositiveInt, ...], pydantic.Field(max_length=32)] = pydantic.Field(
        default=(128, 64), description="Units of each hidden layer; empty for a linear model."
    )
    activation: Literal["relu", "gelu", "tanh"] = pydantic.Field(default="relu", description="After each hidden layer.")
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.0, description="Probability that a hidden unit is silenced while training."
    )


class CnnNetwork(Section):
    """Convolutions over one feature of shape [height, width] or [channels, height, width]."""

    kind: Literal["cnn"] = pydantic.Field(description="Convolutional network.")
    channels: Annotated[tuple[PositiveInt, ...], pydantic.Field(min_length=1, max_length=16)] = pydantic.Field(
        default=(16, 32), description="Output channels of each convolution."
    )
    hidden: Annotated[tuple[PositiveInt, ...], pydantic.Field(max_length=32)] = pydantic.Field(
        default=(64,), description="Units of each fully connected layer after the convolutions."
    )


class ResidualNetwork(Section):
    """A residual network over one feature of shape [height, width] or [channels, height, width].

    A convolution, then for each of the `channels` a stage of blocks: two convolutions, to whose outputs their input is
    added. Stages after the first halve height and width while both are at least 4. Each convolution is normalised by
    the batch; the answer follows from the means over height and width.
    """

    kind: Literal["residual"] = pydantic.Field(description="Residual convolutional network.")
    channels: Annotated[tuple[PositiveInt, ...], pydantic.Field(min_length=1, max_length=16)] = pydantic.Field(
        default=(16, 32, 64), description="Output channels of the convolutions of each stage."
    )
    blocks: Annotated[int, pydantic.Field(ge=1, le=64)] = pydantic.Field(default=2, description="Blocks of each stage.")


IMAGE_KINDS: Final = ("cnn", "residual")
"""Kinds that look at one image."""


class FactorizationMachine(Section):
    """A factorisation machine: for rows of who meets what, such as visitors and offers, each one-hot encoded.

    Each input is described by some numbers, its factors. Two inputs of a row add to the answer by how alike theirs are.
    """

    kind: Literal["factorization"] = pydantic.Field(description="Factorisation machine over all features side by side.")
    factors: Annotated[int, pydantic.Field(ge=1, le=1024)] = pydantic.Field(
        default=16, description="Numbers that describe each input."
    )


class TreesModel(Section):
    """Gradient-boosted trees over all features side by side, by LightGBM. A step is a round: a tree for each class."""

    kind: Literal["trees"] = pydantic.Field(description="Gradient-boosted trees; the trainer needs the extra `trees`.")
    rounds: Annotated[int, pydantic.Field(ge=1, le=10_000)] = pydantic.Field(
        default=300,
        description="Rounds, at most; fewer where the trees would have more than 4 million nodes. The first ones up to "
        "the best validation loss are kept.",
    )
    leaves: Annotated[int, pydantic.Field(ge=2, le=4096)] = pydantic.Field(
        default=31, description="Leaves of each tree, at most."
    )
    learning_rate: Annotated[float, pydantic.Field(gt=0, le=1)] = pydantic.Field(
        default=0.05, description="Share of each tree's answer that counts."
    )
    min_rows: PositiveInt = pydantic.Field(default=20, description="Rows of the training split in each leaf, at least.")
    l2: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=0.0, description="Pull of the leaves' answers towards zero."
    )


class Kept(Section):
    """Base of what is in the object store already."""

    is_folder: ClassVar[bool] = False
    """Whether the digest is that of a list of files, each with its digest."""
    digest: Digest = pydantic.Field(description="Digest by which it is found in the object store.")
    size_bytes: Annotated[int, pydantic.Field(ge=1, le=2**31 - 1)] = pydantic.Field(description="Its size in bytes.")


class ImportedModel(Kept):
    """A model that was made elsewhere. `headrace import` keeps its file, and puts this section in force."""

    kind: Literal["imported"] = pydantic.Field(description="A file that was imported.")
    format: Literal["onnx", "keras"] = pydantic.Field(
        description="onnx: answers as it came, and is judged as any other; epochs and the optimizer are not heeded. "
        "keras: a .keras or .h5 file, trained on from its weights; the trainer needs the extra `keras`."
    )
    classes: tuple[bool | int | str, ...] | None = pydantic.Field(
        default=None,
        description="Classification only: the label's values in the order of the file's outputs. Of one output the "
        "second is meant. Left out: the label's values in order.",
    )
    answers: Literal["logits", "probabilities"] | None = pydantic.Field(
        default=None,
        description="Classification only: what the file's outputs are. Left out: found out from its last operation, "
        "or from what it answers to random rows.",
    )
    frozen: tuple[str, ...] = pydantic.Field(
        default=(),
        description='keras only: names of layers that are not trained, such as conv2d or block_*. ["*"]: the file '
        "answers as it came.",
    )


def _is_single(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _arguments(value: object) -> object:
    """Demand what JSON and every function can hold: names, and single values or lists of such."""
    for name, given in value.items() if isinstance(value, dict) else ():
        if not isinstance(name, str) or not IDENTIFIER.fullmatch(name) or name in ("shape", "outputs"):
            raise ValueError(f"expected names of arguments, and none of shape and outputs, got {name!r}")
        held = given if isinstance(given, list | tuple) else [given]
        if not all(_is_single(each) for each in held):
            raise ValueError(f"expected texts, numbers, true and false, or lists of these, got another for {name!r}")
    return value


class PythonNetwork(Section):
    """A module of PyTorch's that a function of your own package makes: `function(shape, outputs, **arguments)`."""

    kind: Literal["python"] = pydantic.Field(
        description="Your own network; the trainer must have and allow the package."
    )
    factory: FunctionName = pydantic.Field(description="package.module:function, such as acme.nets:wide.")
    arguments: Annotated[
        dict[str, Any],
        pydantic.Field(max_length=64),
        pydantic.BeforeValidator(_arguments),
        pydantic.WithJsonSchema({"type": "object", "maxProperties": 64, "additionalProperties": True}),
    ] = pydantic.Field(
        default_factory=dict,
        description="What the function is told beside shape and outputs, by name: texts, numbers, true and false, and "
        "lists of these.",
    )


class EncoderNetwork(Kept):
    """BERT over one text or a pair, from weights that others have trained. `headrace import` keeps their folder."""

    is_folder: ClassVar[bool] = True
    kind: Literal["encoder"] = pydantic.Field(
        description="BERT over the one feature, which is a text, or over two, which it reads as a pair in the order of "
        "the schema; the trainer needs the extra `encoder`, inference the extra `text`."
    )
    tune: Literal["lora", "full", "frozen"] = pydantic.Field(
        default="lora",
        description="What is learned beside the last layer. lora: a small difference of each weight of the attention. "
        "full: everything; a learningRate of 0.00005 suits it. frozen: nothing else, by far the quickest.",
    )
    rank: Annotated[int, pydantic.Field(ge=1, le=256)] = pydantic.Field(
        default=8, description="lora: rank of the differences."
    )
    length: Annotated[int, pydantic.Field(ge=4, le=8192)] = pydantic.Field(
        default=128, description="Tokens of a text, or of both of a pair, that are read; the rest is cut off."
    )
    pooling: Literal["mean", "cls"] = pydantic.Field(
        default="mean", description="What answers: the mean over a text's tokens, or its first place."
    )
    embedding: bool = pydantic.Field(
        default=False,
        exclude_if=lambda value: not value,  # so that specs keep the digests they had before there was embedding
        description="Whether versions answer the embedding of a text too, for search: the output `embedding`, what "
        "`pooling` makes of the text with a length of 1. With frozen it is the folder's own, the same in each version.",
    )


class CausalLanguageModel(Kept):
    """A language model that others have trained, of the kind of Llama. `headrace import` keeps its files."""

    is_folder: ClassVar[bool] = True
    kind: Literal["causal-lm"] = pydantic.Field(
        description="A language model of the kind of Llama, which answers the one feature, a text, with the label, or "
        "goes on writing such labels where there is no feature; the trainer and the compressor need the extra "
        "`generation`."
    )
    tune: Literal["lora", "full"] = pydantic.Field(
        default="lora",
        description="What is learned. lora: a small difference of each matrix of the layers. full: everything; a "
        "learningRate of 0.00002 suits it.",
    )
    rank: Annotated[int, pydantic.Field(ge=1, le=256)] = pydantic.Field(
        default=8, description="lora: rank of the differences."
    )
    length: Annotated[int, pydantic.Field(ge=8, le=131_072)] = pydantic.Field(
        default=512,
        description="Tokens of a prompt and its answer together that are learned from; the rest of the answer is cut "
        "off, and a row whose prompt leaves no room teaches nothing.",
    )


class NewLanguageModel(Section):
    """A language model of the kind of Llama that knows nothing yet: its words are learned of the training split too."""

    tune: ClassVar[Literal["full"]] = "full"
    rank: ClassVar[int] = 0
    kind: Literal["new-causal-lm"] = pydantic.Field(
        description="As causal-lm, from random weights and with a byte-level BPE that is made of the training split."
    )
    layers: Annotated[int, pydantic.Field(ge=1, le=128)] = pydantic.Field(default=6, description="Layers.")
    width: Annotated[int, pydantic.Field(ge=32, le=16_384, multiple_of=32)] = pydantic.Field(
        default=256, description="Numbers that stand for a token between layers, in parts of 32."
    )
    heads: Annotated[int, pydantic.Field(ge=1, le=256)] = pydantic.Field(
        default=4, description="Heads of the attention, which share the width in equal and even parts."
    )
    vocabulary: Annotated[int, pydantic.Field(ge=512, le=131_072)] = pydantic.Field(
        default=4096, description="Tokens, at most: the 256 bytes, three of control, and what is most often together."
    )
    length: Annotated[int, pydantic.Field(ge=8, le=131_072)] = pydantic.Field(
        default=512, description="As of causal-lm, and the most tokens that it is served with."
    )


def heads_share_the_width(draft: Draft) -> Iterator[Finding]:
    """Demand heads of equal and even width of a new language model."""
    network = draft.section(NewLanguageModel, "train", "network") if _is_new(draft) else None
    if network is not None and (network.width % network.heads or (network.width // network.heads) % 2):
        told = f"expected heads that share width {network.width} in equal and even parts, got {network.heads}"
        yield ("train", "network", "heads"), told


def _is_new(draft: Draft) -> bool:
    return bool(draft.at("train", "network", "kind") == "new-causal-lm")


Network = (
    MlpNetwork
    | CnnNetwork
    | ResidualNetwork
    | FactorizationMachine
    | TreesModel
    | ImportedModel
    | PythonNetwork
    | EncoderNetwork
    | CausalLanguageModel
    | NewLanguageModel
)
"""What can be trained."""
