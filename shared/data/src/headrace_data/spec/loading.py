"""From a document to a `Pipeline`, or to every problem it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, get_args

import orjson
import pydantic

from headrace_data.errors import Problem, SpecInvalid
from headrace_data.spec.draft import Draft, closest
from headrace_data.spec.pipeline import Pipeline
from headrace_data.spec.rules import DOCUMENT_RULES, RULES
from headrace_data.spec.wording import expected
from headrace_data.spec.yaml_tree import Path, Plain, Tree, path_text, read_yaml

_SHOWN: Final = 60


def load_pipeline(document: bytes | str) -> Pipeline:
    """Return the pipeline that a YAML (or JSON) document declares.

    Raises SpecInvalid with every problem of the document, ordered by line.
    """
    tree = read_yaml(document)
    if not tree.problems or tree.value is not None:
        pipeline = _check(tree, json.dumps(tree.value).encode(), document=True)
        if pipeline is not None and not tree.problems:
            return pipeline
    raise SpecInvalid(sorted(set(tree.problems)))


def parse_canonical(data: bytes) -> Pipeline:
    """Return the pipeline of canonical JSON, as `Pipeline.canonical_json` wrote it. Raises SpecInvalid."""
    try:
        value: Plain = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SpecInvalid([Problem(1, "", f"bad JSON: {error}")]) from error
    tree = Tree(value)
    pipeline = _check(tree, data, document=False)
    if pipeline is None or tree.problems:
        raise SpecInvalid(sorted(set(tree.problems)))
    return pipeline


def json_schema() -> str:
    """Return the JSON schema of a pipeline document: the same text for the same version of this package."""
    return json.dumps(Pipeline.model_json_schema(by_alias=True), indent=2, sort_keys=True) + "\n"


def _check(tree: Tree, data: bytes, *, document: bool) -> Pipeline | None:
    """Add the problems of a tree's value to it; return the pipeline when its sections are right."""
    pipeline = None
    try:
        # By way of JSON, where strict types mean what a document means by them: an array for a tuple, 1 for 1.0.
        pipeline = Pipeline.model_validate_json(data)
    except pydantic.ValidationError as invalid:
        # A value that could not be read came as None, with its own problem.
        unread = {problem.path for problem in tree.problems}
        for error in invalid.errors(include_url=False):
            _report(tree, error, unread)
    if not isinstance(tree.value, dict):
        return None
    draft = Draft(tree.value)
    for rule in (*RULES, *(DOCUMENT_RULES if document else ())):
        for path, message in rule(draft):
            tree.report(path, message)
    return pipeline


def _report(tree: Tree, error: Any, unread: set[str]) -> None:
    """Add one of pydantic's errors to the tree, unless it is about a value that has its own problem."""
    path, models = _locate(tree.value, error["loc"], missing=error["type"] == "missing")
    context = error.get("ctx", {})
    if error["type"] == "too_short" and len(error["input"]) >= context["min_length"]:
        return  # items that are wrong were not counted, and each has a problem of its own
    if error["type"] == "json_invalid":
        tree.report((), str(error["msg"]))
    elif error["type"] == "extra_forbidden":
        known = [field.alias or name for model in models for name, field in model.model_fields.items()]
        tree.report(path, f"unknown key; {closest(str(path[-1]), known)}")
    elif error["type"] == "missing":
        tree.report(path, "required, but not there")
    elif error["type"] == "union_tag_not_found":
        tree.report((*path, "kind"), "required, but not there")
    elif error["type"] == "union_tag_invalid":
        tree.report((*path, "kind"), f"expected {context['expected_tags']}, got {_show(context['tag'])}")
    elif error["input"] is not None or path_text(path) not in unread:
        tree.report(path, f"{expected(error)}, got {_show(error['input'])}")


def _show(value: object) -> str:
    """Return a value as a person would write it, cut when it is long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _locate(
    value: Plain, location: tuple[str | int, ...], *, missing: bool
) -> tuple[Path, list[type[pydantic.BaseModel]]]:
    """Return the path of pydantic's location in the document, and the models of the last mapping on it.

    Pydantic puts the tag of a union into its locations; the document has no such level.
    """
    path: list[str | int] = []
    models: list[type[pydantic.BaseModel]] = [Pipeline]
    here: Any = value
    for step, part in enumerate(location):
        last = step == len(location) - 1
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        if not inside and not (last and missing):
            models = [model for model in models if part in _tags(model)] or models
            continue
        path.append(part)
        if not last:
            here = here[part]
            models = [inner for model in models for inner in _inner_models(model, part)] or models
    return tuple(path), models


def _inner_models(model: type[pydantic.BaseModel], alias: str | int) -> Iterator[type[pydantic.BaseModel]]:
    """Yield the models that the field with this alias may hold."""
    pending = [field.annotation for name, field in model.model_fields.items() if (field.alias or name) == alias]
    while pending:
        annotation: Any = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
            yield annotation
        pending.extend(get_args(annotation))


def _tags(model: type[pydantic.BaseModel]) -> tuple[Any, ...]:
    """Return the values of `kind` by which a union knows this model."""
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None else ()
