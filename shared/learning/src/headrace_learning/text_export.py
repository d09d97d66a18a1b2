"""A model of language as the one file that is served: GGUF, compared with the network that it came from."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from headrace_data.tasks import Classes
from headrace_data.tasks.generation import NATS, TOKENS
from headrace_engines.beside import Graph

from headrace_learning.errors import ExportMismatch
from headrace_learning.export import Exported
from headrace_learning.graphs import Array, Columns
from headrace_learning.language_models.generating import TextAnswerer
from headrace_learning.language_models.gguf_files import Prompt, write_gguf

LARGEST_DIFFERENCE: Final = 0.05
"""Nats per token that the engine may differ from PyTorch in, over the rows compared: matrices have half the digits."""
_COMPARED_ROWS: Final = 16


def written(model: Any, folder: Path) -> Path:
    """Write the file of a `ServedText` into a folder, called by its digest."""
    network, dialogue = model.network, model.dialogue
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        path = Path(part.name)
    tensors = {name: each.detach().cpu().numpy() for name, each in network.weights().items()}
    prompt = Prompt(dialogue.name, dialogue.fill or "", dialogue.words.beginning)
    write_gguf(path, network.shape, tensors, dialogue.words, prompt)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.rename(folder / f"{digest}.gguf")


def export_text(
    model: Any,
    _places: Classes,
    rows: Columns,
    truth: Array,
    _decision: Array | None = None,
    folder: Path | None = None,
) -> Exported:
    """Write a `ServedText` and compare what the engine thinks of the first known answers with what it does.

    The file is in `folder`, or bytes without one. Raise `ExportMismatch` when the two disagree.
    """
    with tempfile.TemporaryDirectory() as beside:
        path = written(model, folder or Path(beside))
        graph: Graph = path if folder else path.read_bytes()
    columns = {name: values[:_COMPARED_ROWS] for name, values in rows.items()}
    difference = _difference(model, graph, columns, truth[:_COMPARED_ROWS])
    # Written so that a difference that is no number counts as a mismatch.
    if not difference <= LARGEST_DIFFERENCE:
        raise ExportMismatch(difference, LARGEST_DIFFERENCE, 0)
    return Exported(graph, difference, len(truth[:_COMPARED_ROWS]))


def _difference(model: Any, graph: Graph, columns: Columns, truth: Array) -> float:
    """Return by how many nats per token the engine is off, at most of any row that it takes as the model does."""
    with closing(TextAnswerer(graph)) as answerer:
        given = answerer.answers(columns, truth)
    nats, tokens = thoughts(model, columns, truth)
    same = (given[TOKENS] == tokens) & (tokens > 0)
    if not same.any():
        return 0.0
    return float((np.abs(given[NATS] - nats)[same] / tokens[same]).max())


@torch.no_grad()
def thoughts(model: Any, columns: Columns, truth: Array) -> tuple[Array, Array]:
    """Return what a `ServedText` thinks of known answers: nats and tokens, without what ends them, both [rows]."""
    rows = model.prepare({**columns, model.label: truth})
    end = model.dialogue.words.places[model.dialogue.words.end]
    last = (rows[:, 1:] >= 0).sum(dim=1)
    ends = (last > 0) & (rows.gather(1, last.unsqueeze(1)).squeeze(1) == end)
    rows[ends, last[ends]] = -1
    tokens = ((rows[:, 1:] >= 0).sum(dim=1) - rows[:, 0]).clamp(min=0)
    return model.network(rows)[:, 0].numpy().astype(np.float64), tokens.numpy().astype(np.int64)
