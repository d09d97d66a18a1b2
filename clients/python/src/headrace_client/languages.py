"""A model of language that writes, on its way into a pipeline: a folder as Hugging Face has it, or one GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_client.errors import ExtraMissing, InputInvalid
from headrace_client.folders import NAMES, Files, begin_anew, files_of, inner, required, texts_of

if TYPE_CHECKING:
    from headrace_data.spec import CausalLanguageModel, Pipeline

KINDS: Final = ("llama", "qwen2")
"""What a folder's `config.json` calls such models."""
SUFFIX: Final = ".gguf"
_KEPT_FILE: Final = "model.gguf"
_SETTINGS: Final = ("tokenizer_config.json", "chat_template.jinja")
"""Files that are kept where they are there: which tokens begin and end a text, and the chat template."""


def read_language(path: Path) -> Files:
    """Look a folder or a file through. Raises InputInvalid, with what to do, for one that lacks something."""
    if not path.is_dir():
        return files_of(path.name, {_KEPT_FILE: path})
    found = required(path)
    return files_of(path.name, {name: path / name for name in (*NAMES, *_SETTINGS) if name in found})


def check(files: Files, section: CausalLanguageModel) -> str:
    """Read files as the trainer will; return in words what they hold. Raises InputInvalid and ExtraMissing."""
    try:
        from headrace_learning.errors import NotLearnable
        from headrace_learning.import_check import check_language
    except ModuleNotFoundError as error:
        raise ExtraMissing("import", "import") from error
    try:
        kind, numbers = check_language(section, files)
    except NotLearnable as error:
        raise InputInvalid(f"{files.name}: {error}") from error
    return f"a {kind} of {numbers:,} numbers, {section.length} tokens of prompt and answer, tune: {section.tune}"


def with_language(document: Any, model: str, section: CausalLanguageModel, epochs: int | None) -> Pipeline:
    """Return the pipeline that serves a model of a name, which learns to answer the one text of its records.

    `document` is a pipeline as plain values, and is changed. Raises InputInvalid where its features are others, and
    SpecInvalid.
    """
    from headrace_data.spec import load_pipeline

    texts, features = texts_of(document)
    if len(texts) != len(features) or len(texts) > 1:
        given = ", ".join(features)
        raise InputInvalid(f"stream.schema: expected one feature, a string that is answered, or none, got {given}")
    for field in texts:
        inner(document, "prepare", "transform", str(field.get("name")))["encode"] = "text"
    begin_anew(document, model, section.plain(), epochs)["task"] = "generation"
    return load_pipeline(json.dumps(document))
