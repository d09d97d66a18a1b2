"""The part of the train section that says how training rows are changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.networks import IMAGE_KINDS
from headrace_data.spec.section import Section

_OF_IMAGES: Final = ("flip", "rotate", "shift", "erase", "mask")
_LOOKING: Final = (*IMAGE_KINDS, "python")
"""Kinds of networks that look at images."""


class Augment(Section):
    """Training rows are changed a little in each epoch, as a function of the seed; others never are."""

    noise: Annotated[float, pydantic.Field(ge=0, le=10)] = pydantic.Field(
        default=0.0,
        description="Deviation of what is added to each input of the network, after the transforms: 0.1 is little for "
        "numbers of scale standard.",
    )
    mixup: Annotated[float, pydantic.Field(ge=0, le=10)] = pydantic.Field(
        default=0.0,
        description="Above 0, two rows are mixed to one, and their labels in the same shares, which come from the "
        "distribution Beta(mixup, mixup): 0.2 leaves most rows nearly as they are.",
    )
    oversample: Annotated[float, pydantic.Field(ge=0, le=1)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,
        description="Classification only: rows of rare classes come several times in each epoch, which grows by them. "
        "1: each class has about as many as the commonest. 0.5: rows of a class that has a hundredth of those come ten "
        "times. Probabilities are those of such rows, as with classWeights: balanced, which is refused beside it.",
    )
    gain: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,
        description="The inputs of each row are multiplied by one number, from 1 - gain to 1 + gain: another loudness, "
        "or brightness.",
    )
    flip: bool = pydantic.Field(
        default=False,
        exclude_if=lambda value: not value,
        description="Images only: mirrored left to right, half of them in each epoch.",
    )
    rotate: Annotated[float, pydantic.Field(ge=0, le=180)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,
        description="Images only: so many degrees each is turned about its centre at most, either way; what comes in "
        "is 0.",
    )
    shift: Annotated[int, pydantic.Field(ge=0, le=1024)] = pydantic.Field(
        default=0,
        exclude_if=lambda value: not value,
        description="Images only: so many pixels each is moved at most, up or down and left or right, fewer than the "
        "image has either way; what comes in is 0.",
    )
    erase: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,
        description="Images only: a rectangle in each becomes 0, of at most this share of its height and of its width.",
    )
    mask: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,
        description="Images only: a band across and a band from top to bottom become 0, each of at most this share of "
        "the image: frequencies and times of a spectrogram.",
    )
    time_shift: Annotated[int, pydantic.Field(ge=0, le=1_000_000)] = pydantic.Field(
        default=0,
        exclude_if=lambda value: not value,
        description="Sequences of shape [steps, values] only, and networks of kind python: so many steps each is moved "
        "at most, later or earlier, fewer than it has; what comes in is 0.",
    )
    token_dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,
        description="Texts of an encoder only, tuned by lora or full, which heeds nothing else here: share of their "
        "tokens that are hidden, others in each epoch; [MASK] stands in their place, [UNK] where a tokenizer has none.",
    )


def rows_are_changed_as_the_network_reads_them(draft: Draft) -> Iterator[Finding]:
    """Demand a network of images for what is done to images, one of steps for what is done to these, and so on."""
    kind, augment = draft.at("train", "network", "kind"), draft.at("train", "augment")
    if not isinstance(augment, dict) or not isinstance(kind, str):
        return
    shapes = [list(field.shape) for field in draft.fields.values() if field.role == "feature"]
    tune = draft.at("train", "network", "tune")
    for name in filter(augment.get, augment):
        if told := _unfit(name, kind, shapes if draft.complete else None, tune):
            yield ("train", "augment", name), told


def _unfit(name: str, kind: str, shapes: list[list[int]] | None, tune: object) -> str | None:
    """Return why rows cannot be changed so for a kind of network, or None. Shapes are None where some are wrong."""
    if name == "tokenDropout" and kind == "encoder" and tune == "frozen":
        return "expected an encoder that is tuned (lora or full), got a frozen one, which reads each text once for all"
    if (name == "tokenDropout") != (kind == "encoder"):
        return f"expected {'none for encoder, which do not heed it' if kind == 'encoder' else 'an encoder'}, got {kind}"
    if name == "timeShift" and kind != "python":
        return f"expected a network of kind python, which is told the steps of a sequence, got {kind}"
    if name in _OF_IMAGES and kind not in _LOOKING:
        return f"expected a network of kind {' or '.join(_LOOKING)}, got {kind}"
    if kind != "python" or shapes is None:
        # Other kinds have a rule of their own for what they look at.
        return None
    ranks = [len(shape) for shape in shapes]
    if name in _OF_IMAGES and ranks not in ([2], [3]):
        wanted = "[height, width] or [channels, height, width]"
        return f"python expects one feature of shape {wanted} for it, got {shapes}"
    if name == "timeShift" and ranks != [2]:
        return f"expected one feature of shape [steps, values] for it, got {shapes}"
    return None


def rare_classes_are_made_up_for_once(draft: Draft) -> Iterator[Finding]:
    """Demand no weights of classes beside rows of rare ones that come more often."""
    strength, place = draft.at("train", "augment", "oversample"), ("train", "augment", "oversample")
    if strength and draft.at("train", "classWeights") == "balanced":
        yield (
            place,
            f"expected classWeights none beside it, which make up for the same rows, got {strength} and balanced",
        )


def images_stay_in_sight(draft: Draft) -> Iterator[Finding]:
    """Demand that images and sequences are moved by less than they are long, so that a part of each remains.

    For documents only: an older spec stays readable, whatever it asks for.
    """
    augment = draft.section(Augment, "train", "augment")
    images = [field.shape for field in draft.fields.values() if field.role == "feature"]
    if augment is None or not draft.complete or len(images) != 1 or len(images[0]) < 2:
        return
    height, width = images[0][-2:]
    if augment.shift >= min(height, width):
        yield (
            ("train", "augment", "shift"),
            f"expected less than {min(height, width)} pixels for images of {height} x {width}, got {augment.shift}",
        )
    if augment.time_shift >= height:
        yield (
            ("train", "augment", "timeShift"),
            f"expected less than {height} steps for sequences of {height} steps, got {augment.time_shift}",
        )
