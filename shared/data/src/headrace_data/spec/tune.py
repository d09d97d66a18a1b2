"""The search for good settings: `train.tune`, what it may vary, and the section that a trial's values make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
import pydantic

from headrace_data.spec.draft import Draft, Finding, built, closest
from headrace_data.spec.scalars import Duration, Number
from headrace_data.spec.section import Section
from headrace_data.spec.wording import UNKNOWN, expected

if TYPE_CHECKING:
    from headrace_data.spec.learn import Train

TUNABLE: Final = ("network", "optimizer", "epochs", "batchSize", "earlyStop", "augment")
"""Settings under train that a search may vary, with what is below them."""
_SPACE: Final = ("train", "tune", "space")
_READ_BEFORE: Final = {
    "encoder": ("network.digest", "network.sizeBytes", "network.length", "network.embedding"),
    "causal-lm": ("network.digest", "network.sizeBytes", "network.length"),
    "new-causal-lm": tuple(f"network.{key}" for key in ("layers", "width", "heads", "vocabulary", "length")),
    "imported": ("network.digest", "network.sizeBytes", "network.format"),
}
"""Settings of kinds of networks that a run reads once, whatever its trials say."""


class Between(Section):
    """Any number between two."""

    low: Number = pydantic.Field(description="The smallest.")
    high: Number = pydantic.Field(description="The largest.")
    log: bool = pydantic.Field(
        default=False, description="Whether each power of ten is as likely as the next, as learning rates want it."
    )


Choices = Annotated[tuple[Any, ...], pydantic.Field(min_length=2, max_length=64)]
Varied = Annotated[
    Annotated[Between, pydantic.Tag("between")] | Annotated[Choices, pydantic.Tag("choices")],
    pydantic.Discriminator(lambda value: "between" if isinstance(value, dict | Between) else "choices"),
]
"""Numbers between two, or some values."""


class Tune(Section):
    """A run tries settings one after the other, and its version is the one with the least validation loss."""

    trials: Annotated[int, pydantic.Field(ge=1, le=200)] = pydantic.Field(
        default=20, description="Settings that are tried, at most."
    )
    budget: Duration | None = pydantic.Field(
        default=None,
        description="Processor time of all trials together. The run then ends with the best trial so far, or as soon "
        "as there is one; which that is depends on the machine. Left out: any.",
    )
    pruner: Literal["median", "hyperband", "none"] = pydantic.Field(
        default="median",
        description="Which trials end early. median: those whose loss after an epoch is above the median of the trials "
        "before, once there are five. hyperband: in brackets, all but the best third go on. none: none does.",
    )
    space: Annotated[dict[str, Varied], pydantic.Field(min_length=1, max_length=32)] = pydantic.Field(
        description="What is varied: by the path of a setting under train, such as optimizer.learningRate, a list of "
        "values, or the numbers between `low` and `high`. What is below network, optimizer, epochs, batchSize, "
        "earlyStop and augment can be."
    )


def with_values(train: Train, values: Mapping[str, Any]) -> Train:
    """Return the section with a trial's values in the place of its own, and without the search.

    Raises ValueError for values that are none of the section's.
    """
    plain = train.plain()
    plain.pop("tune", None)
    return type(train).model_validate_json(orjson.dumps(_put(plain, values)))


def is_fractional(train: Train, path: str, between: Between) -> bool:
    """Return whether a setting takes the fractions between two numbers."""
    if isinstance(between.low, float) or isinstance(between.high, float):
        return True
    try:
        with_values(train, {path: between.low + 0.5})
    except ValueError:
        return False
    return True


def space_is_of_the_section(draft: Draft) -> Iterator[Finding]:
    """Demand settings that there are from a search, and values that each may take."""
    space, train = draft.at(*_SPACE), draft.at("train")
    if not isinstance(space, dict) or built(Tune, {"space": space}) is None:
        return
    plain = {name: value for name, value in train.items() if name != "tune"}
    known = _problems(plain)
    for path, said in space.items():
        place = (*_SPACE, path)
        if path.partition(".")[0] not in TUNABLE or path.endswith(".kind") or path == "network":
            yield place, f"cannot be varied; {closest(path, list(TUNABLE))}, or what is below it"
            continue
        if isinstance(said, dict):
            yield from _impossible_bounds(place, said)
        named = {name: said[name] for name in ("low", "high")} if isinstance(said, dict) else dict(enumerate(said))
        for name, value in named.items():
            wrong = [told for where, told in _problems(_put(plain, {path: value})).items() if where not in known]
            if wrong[:1] == [UNKNOWN]:
                yield place, f"expected a setting under train, which it is not beside network.kind: {_kind(draft)}"
                break
            if wrong:
                yield (*place, name), f"{wrong[0]}, got {orjson.dumps(value).decode()}"


def trials_can_be_trained(draft: Draft) -> Iterator[Finding]:
    """Demand that no path lies below another, and no change of what a run reads before its trials begin.

    For documents only: older specs stay readable.
    """
    space, kind = draft.at(*_SPACE), _kind(draft)
    if not isinstance(space, dict) or built(Tune, {"space": space}) is None:
        return
    for path in space:
        if above := next((other for other in space if path.startswith(f"{other}.")), None):
            yield (*_SPACE, path), f"expected no path below another, got {above} too, which has it in its values"
        if isinstance(kind, str) and path in _READ_BEFORE.get(kind, ()):
            yield (*_SPACE, path), f"cannot be varied for {kind}: it is read before the trials begin"
    if (kind, draft.at("train", "network", "format")) == ("imported", "onnx"):
        yield ("train", "tune"), "expected none for an imported onnx, of which nothing is trained, got one"


def values_keep_a_rule(draft: Draft, rule: Callable[[Draft], Iterator[Finding]]) -> Iterator[Finding]:
    """Demand that each value of a search, in the place of the section's own, keeps a rule about a document."""
    space, train = draft.at(*_SPACE), draft.at("train")
    if not isinstance(space, dict) or not isinstance(draft.value, dict) or built(Tune, {"space": space}) is None:
        return
    known, plain = set(rule(draft)), {name: value for name, value in train.items() if name != "tune"}
    for path, said in space.items():
        named = {name: said[name] for name in ("low", "high")} if isinstance(said, dict) else dict(enumerate(said))
        for name, value in named.items():
            for _, message in set(rule(draft.changed(train=_put(plain, {path: value})))) - known:
                yield (*_SPACE, path, name), message


def _kind(draft: Draft) -> object:
    return draft.at("train", "network", "kind")


def _impossible_bounds(place: tuple[str | int, ...], said: Mapping[str, Any]) -> Iterator[Finding]:
    low, high = said["low"], said["high"]
    if not low < high:
        yield place, f"expected low below high, got {low:g} and {high:g}"
    if said.get("log") and low <= 0:
        yield (*place, "low"), f"expected above 0 beside log: true, got {low:g}"


def _put(plain: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with values at their paths; a section that is not there, or is no mapping, begins empty."""
    changed = deepcopy(dict(plain))
    for path, value in values.items():
        *sections, last = path.split(".")
        here = changed
        for name in sections:
            if not isinstance(here.get(name), dict):
                here[name] = {}
            here = here[name]
        here[last] = value
    return changed


def _problems(plain: Mapping[str, Any]) -> dict[tuple[Any, ...], str]:
    """Return what is wrong with a train section, by place."""
    from headrace_data.spec.learn import Train

    try:
        Train.model_validate_json(orjson.dumps(plain))
    except pydantic.ValidationError as invalid:
        return {(*error["loc"], error["type"]): expected(error) for error in invalid.errors(include_url=False)}
    return {}
