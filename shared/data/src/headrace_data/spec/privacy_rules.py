"""Rules about what goes with `train.privacy`: rows that are learned one by one, and fits that look at none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from headrace_data.spec.draft import Draft, Finding, built
from headrace_data.spec.pipeline import default_task
from headrace_data.spec.privacy import Privacy
from headrace_data.spec.stream import Field
from headrace_data.spec.transform import Buckets, Constant, Transform
from headrace_data.tasks import TASKS

_PRIVACY: Final = ("train", "privacy")
_BESIDE_OTHERS: Final = (
    ("prepare", "clean", "outliers"),
    ("prepare", "clean", "nearDuplicates"),
    ("prepare", "leak"),
    ("prepare", "minClassRows"),
    ("prepare", "hold"),
)
"""Rules by which a row decides whether others are learned from; one that only reports does not."""
_UNFIT: Final = {
    "trees": "a network, which learns by gradients",
    "causal-lm": "a network that learns rows one by one, not side by side in a sequence",
    "new-causal-lm": "a network that learns rows one by one, not side by side in a sequence",
    "residual": "a network without batch normalisation, which mixes the rows of a batch",
}
"""Kinds that cannot be trained so, and what is expected in their place."""
_BESIDE: Final[Sequence[tuple[str, object, str]]] = (
    ("from", None, "none, as what a version learned of the same rows before is not counted"),
    ("compareWith", None, "none, as trees would learn the same rows without privacy"),
    ("classWeights", "none", "none, as the rows of each class would be counted exactly"),
    ("augment.mixup", 0, "0, as a row would be a part of others"),
    ("augment.oversample", 0, "0, as a row would come more often than it is counted"),
    ("augment.tokenDropout", 0, "0, as which tokens are hidden is no secret"),
    ("optimizer.accumulate", 1, "1: a larger batchSize takes no more memory there"),
    ("compute.precision", "fp32", "fp32"),
    ("compute.processes", 1, "1"),
    ("compute.compile", False, "false"),
    ("compute.recompute", False, "false"),
)
"""Settings under train that do not go with privacy: where, what they may be, and what is expected."""
_READING: Final = ("int8-static", "low-rank", "distilled", "pruned", "qat")
"""Kinds of variants that look at training rows."""
_FITLESS: Final = ("none", "cyclic", "hash", "text")
"""Kinds of transforms that look at no row."""
_SHOWN: Final = 12
"""Names that an error lists."""


def exact_fits(fields: Sequence[Field], transforms: Mapping[str, Transform], task: str) -> list[str]:
    """Return what is fitted on the values of rows, without noise: names of features, and of a label of numbers."""
    features = [field for field in fields if field.role == "feature"]
    fitted = [field.name for field in features if _looks(transforms.get(field.name, Transform()), field)]
    return fitted + [field.name for field in fields if field.role == "label" and TASKS[task].answers_numbers]


def _looks(transform: Transform, field: Field) -> bool:
    """Return whether a feature's transform looks at values of rows."""
    if transform.impute is not None and not isinstance(transform.impute, Constant):
        return True
    kind = transform.kind_of(field.type)
    return kind not in _FITLESS and not (kind == "buckets" and transform.told(Buckets).edges is not None)


def rows_are_learned_one_by_one(draft: Draft) -> Iterator[Finding]:
    """Demand, beside privacy, a network that takes each row by itself, and settings that leave it so."""
    if draft.at(*_PRIVACY) is None:
        return
    kind, form, task = draft.at("train", "network", "kind"), draft.at("train", "network", "format"), _task(draft)
    if isinstance(kind, str) and kind in _UNFIT:
        yield ("train", "network", "kind"), f"expected {_UNFIT[kind]}, beside train.privacy, got {kind}"
    if (kind, form) == ("imported", "onnx"):
        yield _PRIVACY, "expected none for an imported onnx, of which nothing is trained, got one"
    for path, allowed, told in _BESIDE:
        place = ("train", *path.split("."))
        value = draft.at(*place)
        if value is not None and value != allowed:
            yield place, f"expected {told}, beside train.privacy, got {value}"
    for rule in _BESIDE_OTHERS:
        if draft.at(*rule) not in (None, "report"):
            told = "expected none, as a row would decide whether others are learned from, beside train.privacy, got one"
            yield rule, told
    yield from _variants_that_read_rows(draft)
    if task is not None and TASKS[task].grouped:
        yield _PRIVACY, f"expected none for a {task}, whose rows are learned side by side, got one"


def _variants_that_read_rows(draft: Draft) -> Iterator[Finding]:
    variants = draft.at("compress", "variants")
    for position, variant in enumerate(variants) if isinstance(variants, list) else ():
        steps = variant.get("steps") if isinstance(variant, dict) else None
        parts = [variant, *(steps if isinstance(steps, list) else ())]
        kinds = [each.get("kind") for each in parts if isinstance(each, dict)]
        for kind in (each for each in kinds if each in _READING):
            told = f"expected variants that look at no training row, beside train.privacy, got {kind}"
            yield ("compress", "variants", position), told


def fits_look_at_no_row(draft: Draft) -> Iterator[Finding]:
    """Demand of who asks for privacy that nothing is fitted on rows, or leave to do so."""
    privacy, task = built(Privacy, draft.at(*_PRIVACY)), _task(draft)
    if privacy is None or privacy.fits == "exact" or not draft.complete or task is None:
        return
    said = draft.at("prepare", "transform")
    read = {name: built(Transform, value) for name, value in said.items()} if isinstance(said, dict) else {}
    transforms = {name: transform for name, transform in read.items() if transform is not None}
    if found := exact_fits(list(draft.fields.values()), transforms, task):
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield (
            (*_PRIVACY, "fits"),
            "expected exact, which leaves what is fitted on rows outside of epsilon, or transforms that look at none "
            "(scale none, cyclic, hash, buckets with edges, a constant for gaps) and a label of classes, got refused "
            f"and fits of {', '.join(found[:_SHOWN])}{more}",
        )


def a_run_fits_the_total(draft: Draft) -> Iterator[Finding]:
    """Demand a total that one run does not go beyond: else the registry would refuse each."""
    privacy = built(Privacy, draft.at(*_PRIVACY))
    if privacy is not None and privacy.total is not None and privacy.total < privacy.epsilon:
        told = f"expected at least epsilon, which one run may spend, {privacy.epsilon:g}, got {privacy.total:g}"
        yield (*_PRIVACY, "total"), told


def _task(draft: Draft) -> str | None:
    """Return the task of a document, None where it cannot be told."""
    said = draft.at("train", "task")
    label = next((field for field in draft.fields.values() if field.role == "label"), None)
    task = said if said is not None or label is None else default_task(label)
    return task if isinstance(task, str) and task in TASKS else None
