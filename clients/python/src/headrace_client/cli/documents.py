"""Pipeline files, with the schemas of records that lie in files beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from headrace_client.cli.files import STANDARD_INPUT, read_file
from headrace_client.errors import InputInvalid
from headrace_client.yaml_texts import scalar

KEY: Final = "schemaFile"
_VALUE: Final = re.compile(rf"""\b{KEY}:[ ]*("[^"\n]*"|'[^'\n]*'|[^\s,}}#]+)""")


def read_document(file: str) -> bytes:
    """Return a pipeline's YAML; `schemaFile` of its format becomes `schema` with what stands in that file.

    Its name is taken from the folder of the YAML. Lines keep their numbers. Raises as `read_file` does, and
    InputInvalid when the file cannot be read.
    """
    document = read_file(file)
    if KEY.encode() not in document:
        return document
    named = _named(document)
    text = document.decode()
    found = list(_VALUE.finditer(text))
    if named is None or len(found) != 1:
        # What is not plain is left to the checks of the document.
        return document
    folder = Path() if file == STANDARD_INPUT else Path(file).parent
    try:
        schema = (folder / named).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"stream.format.{KEY}: {folder / named} cannot be read: {error}") from error
    return f"{text[: found[0].start()]}schema: {scalar(schema)}{text[found[0].end() :]}".encode()


def _named(document: bytes) -> str | None:
    """Return the file that a document names; None where it names none, or is no document."""
    import yaml

    try:
        told: Any = yaml.safe_load(document)
        named = told["stream"]["format"][KEY]
    except (yaml.YAMLError, KeyError, TypeError):
        return None
    return named if isinstance(named, str) else None
