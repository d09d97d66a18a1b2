"""An encoder whose weights lie beside its graph: those that are looked up, and those that are multiplied."""

from pathlib import Path

import numpy as np
import pytest
from headrace_engines.beside import weights_beside
from headrace_learning import large
from headrace_learning.evaluation import open_graph
from headrace_learning.export import export_graph
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source

from .test_encoder import Notebook, Shelf, fitted, model_of, reviews
from .variant_sections import SECTIONS

pytestmark = pytest.mark.slow


def test_weights_may_lie_beside_it(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tiny_bert)
    section = shelf.section(tune="frozen", embedding=True)
    model = model_of(shelf, section, fitted(shelf, section, Notebook()).network, 3)
    texts = {"review": reviews(60, 4)[0]}
    one = export_graph(model, ["a", "b", "c"], texts).data
    monkeypatch.setattr(large, "LARGEST_BYTES", 10_000)
    monkeypatch.setattr(large, "LEAST_BYTES", 1_000)
    parts = export_graph(model, ["a", "b", "c"], texts, folder=tmp_path).data
    assert isinstance(parts, Path)
    # The embeddings of words are looked up, the rest is multiplied.
    assert len(weights_beside(parts.read_bytes())) > 10
    for kind in ("weight-only-int8", "float16-weights", "int8-per-channel"):
        smaller = METHODS[kind].make(Source(parts), SECTIONS[kind])
        assert isinstance(smaller, Made)
        for graph, near in ((parts, 1e-5), (smaller.graph, 0.1)):
            for name in ("probabilities", "embedding"):
                (given,), (expected,) = (open_graph(each).run(texts, [name]) for each in (graph, one))
                assert np.abs(given - expected).max() < near
