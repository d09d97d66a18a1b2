"""A BERT in a folder as Hugging Face has it, on its way into a pipeline: its files kept, and the spec reading texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace_client.errors import ExtraMissing, InputInvalid
from headrace_client.folders import CONFIG, NAMES, Files, begin_anew, files_of, inner, kind_of, texts_of

if TYPE_CHECKING:
    from headrace_data.spec import EncoderNetwork, Pipeline


def read_encoder(path: Path) -> Files:
    """Look a folder through. Raises InputInvalid, with what to do, for one that is none of a BERT."""
    if (kind := kind_of(path)) != "bert":
        raise InputInvalid(f"{path.name}: expected {CONFIG} of model_type bert, got {kind!r}; no other is read")
    return files_of(path.name, {name: path / name for name in NAMES})


def check(encoder: Files, section: EncoderNetwork, texts: int) -> str:
    """Read a folder as the trainer will; return in words what it holds. Raises InputInvalid and ExtraMissing.

    `texts` is how many features the pipeline has, which are read as one.
    """
    try:
        from headrace_learning.errors import NotLearnable
        from headrace_learning.import_check import check_encoder
    except ModuleNotFoundError as error:
        raise ExtraMissing("import", "import") from error
    try:
        numbers = check_encoder(section, encoder, texts)
    except NotLearnable as error:
        raise InputInvalid(f"{encoder.name}: {error}") from error
    read = "each text" if texts == 1 else "each pair"
    return f"a BERT of {numbers:,} numbers, {section.length} tokens of {read}, tune: {section.tune}"


def with_encoder(document: Any, model: str, section: EncoderNetwork, epochs: int | None) -> Pipeline:
    """Return the pipeline that serves a model of a name, tuned from a folder: its one text or two are read by it.

    `document` is a pipeline as plain values, and is changed. Raises InputInvalid where its features are others, and
    SpecInvalid.
    """
    from headrace_data.spec import load_pipeline
    from headrace_data.spec.feature_rules import READ_TOGETHER

    texts, features = texts_of(document)
    if len(texts) != len(features) or len(texts) not in READ_TOGETHER:
        given = ", ".join(features) or "none"
        raise InputInvalid(f"stream.schema: expected one feature or two, strings that the encoder reads, got {given}")
    for field in texts:
        inner(document, "prepare", "transform", str(field.get("name")))["encode"] = "text"
    begin_anew(document, model, section.plain(), epochs)
    return load_pipeline(json.dumps(document))
