"""Files of others on their way into a pipeline: which are kept, by which digests, and the keys of a spec around them.

Needs the extra `import` of `headrace-client`, which brings the object store and what reads files before they are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_client.errors import InputInvalid
from headrace_client.stores import opened_store

if TYPE_CHECKING:
    from headrace_data.folder import Folder

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
NAMES: Final = (CONFIG, WEIGHTS, TOKENIZER)
"""The files that each model of language has in a folder as Hugging Face writes it."""
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
class Files:
    """Files as they lie on this machine, by what they are called where they are kept."""

    name: str
    """What a person calls them."""
    paths: Mapping[str, Path]
    folder: Folder
    """The list of them that is kept."""

    @cached_property
    def document(self) -> bytes:
        """The list, as it is kept."""
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
        return read_file(self.paths[next(name for name, file in self.folder.files.items() if file.digest == digest)])


def files_of(name: str, paths: Mapping[str, Path]) -> Files:
    """Return files by what they are called where they are kept. Raises InputInvalid for one that cannot be read."""
    from headrace_data.folder import FileRef, Folder

    found = {}
    for kept, path in paths.items():
        data = read_file(path)
        found[kept] = FileRef(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    return Files(name, paths, Folder(found))


def required(path: Path) -> list[str]:
    """Return what a folder has. Raises InputInvalid, with what to do, for one without the files of a model."""
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
    return found


def kind_of(path: Path) -> object:
    """Return the kind of model that a folder's `config.json` says. Raises InputInvalid as `required`, and for JSON."""
    required(path)
    kind: object = None
    for name in (CONFIG, TOKENIZER):
        try:
            plain = json.loads(read_file(path / name))
        except ValueError as error:
            raise InputInvalid(f"{path.name}: expected {name} as JSON, got other bytes ({error})") from error
        if not isinstance(plain, dict):
            raise InputInvalid(f"{path.name}: expected {name} as a JSON object, got {type(plain).__name__}")
        kind = plain.get("model_type", "none") if name == CONFIG else kind
    return kind


def keep(files: Files) -> None:
    """Keep files in the object store. Raises what `opened_store` does, and InputInvalid for files that changed."""
    with opened_store("import", "import") as store:
        for name, file in files.folder.files.items():
            if store.put_file(files.paths[name]).digest != file.digest:
                raise InputInvalid(f"{files.name}: {name} changed while it was read")
        store.put(files.document)


def inner(document: Any, *path: str) -> dict[str, Any]:
    """Return the mapping at a path of keys, made where it is left out. Raises InputInvalid for what is none."""
    for place in range(len(path) + 1):
        if not isinstance(document, dict):
            where = ".".join(path[:place]) or "the pipeline"
            raise InputInvalid(f"{where}: expected a mapping, got {type(document).__name__}")
        if place < len(path):
            document = document.setdefault(path[place], {})
    found: dict[str, Any] = document
    return found


def texts_of(document: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the features of a document that are single texts, and all of them in words."""
    schema = inner(document, "stream").get("schema")
    fields = [field for field in schema if isinstance(field, dict)] if isinstance(schema, list) else []
    features = [field for field in fields if field.get("role") == "feature"]
    texts = [field for field in features if field.get("type") == "string" and not field.get("shape")]
    return texts, [f"{field.get('name')} ({field.get('type')})" for field in features]


def without_defaults(document: Any) -> None:
    """Leave out of a document the gates that say what they do by themselves: other tasks' are among them.

    The spec in force has them all. Raises InputInvalid for what is no document.
    """
    from headrace_data.spec import Gates

    defaults, gates = Gates().plain(), inner(document, "compress", "gates")
    for name in [name for name, value in gates.items() if defaults.get(name) == value]:
        del gates[name]


def begin_anew(document: Any, model: str, network: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
    """Put a network in force in a document, under the name of a model; return the section `train`.

    What is said of a version to begin from is about another network.
    """
    without_defaults(document)
    train = inner(document, "train")
    for key in ("from", "freeze", "rates"):
        train.pop(key, None)
    train |= {"model": model, "network": dict(network)} | ({} if epochs is None else {"epochs": epochs})
    return train


def read_file(path: Path) -> bytes:
    """Return a file's bytes. Raises InputInvalid when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{path} cannot be read: {error.strerror}") from error
