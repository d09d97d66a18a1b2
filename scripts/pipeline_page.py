"""Makes docs/pipeline.md from the spec's models: every key with its type, its default and what it means."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.spec.scalars import (
    DIGEST,
    DNS_LABEL,
    DURATION,
    FIELD_NAME,
    FOLDER_NAME,
    FUNCTION_NAME,
    SIZE,
    TOPIC_NAME,
)
from headrace_data.spec.section import Section
from headrace_data.spec.transfer import VERSION_NAME
from headrace_data.spec.urls import URL
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "penguins-species" / "pipeline.yaml"

INTRODUCTION = """\
# The pipeline file

Generated from the models of `headrace_data.spec` by `make docs`.

One YAML file declares a pipeline, from a Kafka topic to a served model. `headrace init --topic TOPIC` drafts one from a
topic's records, `headrace validate FILE` names every problem with its line, `headrace apply FILE` puts it in force.
Keys that are not listed here are refused, and so are YAML's anchors, aliases and tags.

An editor with the YAML language server completes and explains the keys when the first line names the schema,
[pipeline.schema.json](pipeline.schema.json), by its path relative to the file:

```yaml
# yaml-language-server: $schema=pipeline.schema.json
```

`headrace init` writes the schema of the installed version beside its draft, so this needs no network.

The pieces below are those of [examples/penguins-species](../examples/penguins-species/pipeline.yaml), a table with gaps
and text categories. [examples/digits](../examples/digits/pipeline.yaml) learns from images.

A *duration* is a whole number with a unit: `500ms`, `3s`, `5m`, `1h`, `7d`; so is a *size*: `512MiB`, `8GB`. A
*DNS label* has at most 63 lower-case letters, digits and inner hyphens. A *field name* is a letter, then at most 63
letters, digits, `_`, `-` or `.`.
"""

NULL = {"type": "null"}
_PATTERNS = {
    DNS_LABEL.pattern: "DNS label",
    FIELD_NAME.pattern: "field name",
    DURATION.pattern: "duration",
    DIGEST.pattern: "digest",
    FOLDER_NAME.pattern: "folder",
    FUNCTION_NAME.pattern: "package.module:function",
    SIZE.pattern: "size",
    TOPIC_NAME.pattern: "topic name",
    VERSION_NAME.pattern: "version",
    URL.pattern: "address",
}
"""What texts of a pattern are called."""


@dataclass(frozen=True)
class Part:
    """One section of the page: a model and where it stands in the document."""

    model: type[Section]
    path: str
    kind: str = ""
    """Value of `kind` by which a union knows the model; empty outside of unions."""

    @property
    def title(self) -> str:
        """Heading without marks."""
        named = f"`{self.path}`" if self.path else "The document"
        return f"{named} of kind {self.kind}" if self.kind else named

    @property
    def anchor(self) -> str:
        """Where a link to the heading leads."""
        return re.sub(r"[^a-z0-9 -]", "", self.title.lower()).replace(" ", "-")


def pipeline_page() -> str:
    """Return docs/pipeline.md."""
    links: dict[str, Part] = {}
    for part in _parts(Part(Pipeline, "")):
        links.setdefault(part.model.__name__, part)  # what stands in several places is told of where it comes first
    definitions = Pipeline.model_json_schema(by_alias=True)
    text = EXAMPLE.read_text()
    load_pipeline(text)
    lines = [INTRODUCTION]
    for part in links.values():
        lines += _section(part, definitions, links, text)
    return "\n".join(lines).rstrip("\n") + "\n"


def _parts(part: Part) -> Iterator[Part]:
    """Yield a model and those inside of it, depth first, as the document is read."""
    yield part
    for name, field in part.model.model_fields.items():
        inner = list(dict.fromkeys(_models(field.annotation)))
        for model in inner:
            kind = _kind(model) if len(inner) > 1 else ""
            path = f"{part.path}.{field.alias or name}".lstrip(".") + _repeated(field.annotation)
            yield from _parts(Part(model, path, kind))


def _kind(model: type[Section]) -> str:
    """Return what tells a model from the others that may stand in its place: its kind, or its first key."""
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field else next(iter(model.model_fields))


def _models(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _repeated(annotation: Any) -> str:
    text = str(annotation)
    return "[]" if text.startswith("tuple[") or "[tuple[" in text else ".FEATURE" if "dict[" in text else ""


def _section(part: Part, definitions: dict[str, Any], links: dict[str, Part], text: str) -> Iterator[str]:
    top = part.path.count(".") == 0 and not part.path.endswith("[]")
    yield f"{'##' if top else '###'} {part.title}\n"
    yield f"{inspect.cleandoc(part.model.__doc__ or '')}\n"
    if part.path and top and f"\n{part.path}:" in text:
        yield f"```yaml\n{_block(text, part.path)}\n```\n"
    name = part.model.__name__
    properties = (definitions if part.model is Pipeline else definitions["$defs"][name])["properties"]
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for field_name, field in part.model.model_fields.items():
        key = field.alias or field_name
        described = (field.description or "").replace("|", "\\|")
        yield f"| `{key}` | {_type(properties[key], links)} | {_default(part.model, field_name, field)} | {described} |"
    yield ""


def _block(text: str, key: str) -> str:
    """Return the lines of a top key of the example."""
    found = re.search(rf"^{key}:.*\n(?:[ #].*\n|\n(?=[ ]))*", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"{EXAMPLE}: expected a section {key}, got none")
    return found[0].rstrip("\n")


def _default(model: type[Section], name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "empty" if "dict[" in str(field.annotation) else "its defaults"
    if field.default is None:
        return "unset"
    plain = model.model_construct().model_dump(mode="json", by_alias=True)
    # A default that specs leave out of their digest is left out here too.
    written = next(
        (each.func for each in field.metadata if isinstance(each, pydantic.PlainSerializer)), lambda value: value
    )
    value = plain.get(field.alias or name, written(field.default))
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value in ([], ()) else f"`{list(value) if isinstance(value, tuple) else value}`"


def _type(schema: dict[str, Any], links: dict[str, Part]) -> str:
    """Return a JSON schema in words."""
    if "$ref" in schema:
        part = links[schema["$ref"].rpartition("/")[2]]
        return f"[{part.kind or part.path.rpartition('.')[2].removesuffix('[]')}](#{part.anchor})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            words = dict.fromkeys(_type(one, links) for one in schema[union] if one != NULL)
            return " or ".join(word for word in words if not (word == "integer" and "number" in words))
    if "prefixItems" in schema:
        return f"[{', '.join(_type(one, links) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], links).replace('integer', 'integers')}"
    if "additionalProperties" in schema and schema["type"] == "object":
        values = schema["additionalProperties"]
        if values is True:
            return "mapping of names to values"
        named = _type(values, links)
        return f"mapping of features, see {named}" if "$ref" in values else f"mapping of names to {named}"
    return _scalar(schema)


def _scalar(schema: dict[str, Any]) -> str:
    if not schema:
        return "values"
    kind = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true`, `false`"}[schema["type"]]
    if kind == "text":
        return _PATTERNS[schema["pattern"].removeprefix("^").removesuffix("$")] if "pattern" in schema else kind
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if kind not in ("integer", "number") or low is None:
        return kind
    above = "above" if "exclusiveMinimum" in schema else "from"
    if high is None or high == 2**31 - 1:
        return f"{kind} {above} {low}"
    return f"{kind} {above} {low} {'to below' if 'exclusiveMaximum' in schema else 'to'} {high}"
