"""A BERT in a folder as Hugging Face has it, on its way into a pipeline: its files kept, and the spec reading texts.

Needs the extra `import` of `headrace-client`, which brings the object store and what reads a folder before it is kept.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_client.errors import ExtraMissing, InputInvalid
from headrace_client.stores import opened_store

if TYPE_CHECKING:
    from headrace_data.folder import Folder
    from headrace_data.spec import EncoderNetwork, Pipeline

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
NAMES: Final = (CONFIG, WEIGHTS, TOKENIZER)
"""The files of a folder that are kept."""
_SAVED: Final = "save it with model.save_pretrained(FOLDER, safe_serialization=True"
_TWINS: Final = {
    WEIGHTS: {
        "model.safetensors.index.json": f"weights in one file: {_SAVED}, max_shard_size='100GB')",
        "pytorch_model.bin": f"pickles hold programs and are never read: {_SAVED})",
        "pytorch_model.bin.index.json": f"pickles hold programs and are never read: {_SAVED}, max_shard_size='100GB')",
        "tf_model.h5": f"weights of TensorFlow are not read: {_SAVED})",
        "flax_model.msgpack": f"weights of Flax are not read: {_SAVED})",
    },
    TOKENIZER: {
        "vocab.txt": "save the tokenizer as one file: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    },
}
"""What a folder may have in a file's place, and what to do about it."""


@dataclass(frozen=True)
class Encoder:
    """A folder as it lies on this machine."""

    path: Path
    folder: Folder
    """The files that are kept."""

    @cached_property
    def document(self) -> bytes:
        """The list of its files, as it is kept."""
        return self.folder.to_json()

    @property
    def digest(self) -> str:
        """The digest by which the list is found."""
        return f"sha256:{hashlib.sha256(self.document).hexdigest()}"

    @property
    def size_bytes(self) -> int:
        """Bytes of all that is kept."""
        return len(self.document) + sum(file.size_bytes for file in self.folder.files.values())

    def read(self, digest: str, size_bytes: int) -> bytes:
        """Return the list or a file by its digest. Raises InputInvalid when it cannot be read."""
        if digest == self.digest:
            return self.document
        return _read(self.path, next(name for name, file in self.folder.files.items() if file.digest == digest))


def read_encoder(path: Path) -> Encoder:
    """Look a folder through. Raises InputInvalid, with what to do, for one that is none of a BERT."""
    from headrace_data.folder import FileRef, Folder

    try:
        found = sorted(each.name for each in path.iterdir())
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error
    for name in NAMES:
        if name not in found:
            hint = next((hint for twin, hint in _TWINS.get(name, {}).items() if twin in found), "")
            listed = ", ".join(found[:8]) + (", …" if len(found) > 8 else "") or "none"
            raise InputInvalid(
                f"{path.name}: expected a Hugging Face folder with {', '.join(NAMES)}, got one without {name}; "
                f"{hint or f'its files: {listed}'}"
            )
    _require_bert(path)
    files = {}
    for name in NAMES:
        data = _read(path, name)
        files[name] = FileRef(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    return Encoder(path, Folder(files))


def check(encoder: Encoder, section: EncoderNetwork, texts: int) -> str:
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
        raise InputInvalid(f"{encoder.path.name}: {error}") from error
    read = "each text" if texts == 1 else "each pair"
    return f"a BERT of {numbers:,} numbers, {section.length} tokens of {read}, tune: {section.tune}"


def keep(encoder: Encoder) -> None:
    """Keep a folder in the object store. Raises what `opened_store` does, and InputInvalid for files that changed."""
    with opened_store("import", "import") as store:
        for name, file in encoder.folder.files.items():
            if store.put_file(encoder.path / name).digest != file.digest:
                raise InputInvalid(f"{encoder.path.name}: {name} changed while it was read")
        store.put(encoder.document)


def with_encoder(document: Any, model: str, section: EncoderNetwork, epochs: int | None) -> Pipeline:
    """Return the pipeline that serves a model of a name, tuned from a folder: its one text or two are read by it.

    `document` is a pipeline as plain values, and is changed. Raises InputInvalid where its features are others, and
    SpecInvalid.
    """
    from headrace_data.spec import load_pipeline
    from headrace_data.spec.feature_rules import READ_TOGETHER

    schema = _inner(document, "stream").get("schema")
    fields = [field for field in schema if isinstance(field, dict)] if isinstance(schema, list) else []
    features = [field for field in fields if field.get("role") == "feature"]
    texts = [field for field in features if field.get("type") == "string" and not field.get("shape")]
    if len(texts) != len(features) or len(texts) not in READ_TOGETHER:
        given = ", ".join(f"{field.get('name')} ({field.get('type')})" for field in features) or "none"
        raise InputInvalid(f"stream.schema: expected one feature or two, strings that the encoder reads, got {given}")
    for field in texts:
        _inner(document, "prepare", "transform", str(field.get("name")))["encode"] = "text"
    train = _inner(document, "train")
    for key in ("from", "freeze", "rates"):  # they are about another network
        train.pop(key, None)
    train |= {"model": model, "network": section.plain()} | ({} if epochs is None else {"epochs": epochs})
    return load_pipeline(json.dumps(document))


def _inner(document: Any, *path: str) -> dict[str, Any]:
    """Return the mapping at a path of keys, made where it is left out. Raises InputInvalid for what is none."""
    for place in range(len(path) + 1):
        if not isinstance(document, dict):
            where = ".".join(path[:place]) or "the pipeline"
            raise InputInvalid(f"{where}: expected a mapping, got {type(document).__name__}")
        if place < len(path):
            document = document.setdefault(path[place], {})
    found: dict[str, Any] = document
    return found


def _require_bert(path: Path) -> None:
    for name in (CONFIG, TOKENIZER):
        try:
            plain = json.loads(_read(path, name))
        except ValueError as error:
            raise InputInvalid(f"{path.name}: expected {name} as JSON, got other bytes ({error})") from error
        if not isinstance(plain, dict):
            raise InputInvalid(f"{path.name}: expected {name} as a JSON object, got {type(plain).__name__}")
        if name == CONFIG and plain.get("model_type") != "bert":
            given = plain.get("model_type", "none")
            raise InputInvalid(f"{path.name}: expected {CONFIG} of model_type bert, got {given!r}; no other is read")


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise InputInvalid(f"{path / name} cannot be read: {error.strerror}") from error
