"""Variants of a model of language, measured in the engine that serves them, and versions beside each other."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from headrace_compressor.core.compression import Version, compare, make_variants, measure_variants
from headrace_compressor.core.measurement import Rows
from headrace_data.spec import AnyVariant, TextVariant, Variant
from headrace_data.tasks import TASKS
from headrace_engines.beside import total_bytes
from headrace_learning.methods.method import Source

pytestmark = pytest.mark.slow


def told(step: int, steps: int, metrics: object, eta_s: float) -> None:
    pass


def rows(count: int = 24) -> Rows:
    prompts = np.array([f"who turns the mill {place}?" for place in range(count)], dtype=object)
    answers = np.array(["the river" if place % 2 else "the wheel" for place in range(count)], dtype=object)
    answers[2] = "on and on " * 100  # which is longer than the model takes
    return Rows("d", [({"prompt": prompts}, answers)], count)


def test_variants_are_measured_beside_the_file_as_it_was_trained(
    tiny_gguf: Callable[..., bytes], tmp_path: Path
) -> None:
    (trained := tmp_path / "trained.gguf").write_bytes(tiny_gguf(**{"headrace.prompt": "prompt"}))
    source = Source(trained)
    asked: list[AnyVariant] = [TextVariant(kind="gguf-q8"), TextVariant(kind="gguf-q4"), Variant(kind="int8-dynamic")]
    made, others = make_variants(source, asked)
    assert list(made) == ["fp32", "q8", "q4"]
    assert others["int8"].reason == "int8-dynamic: expected an ONNX graph, got a model of language"
    assert made["q8"].told.keys() >= {"gguf"}
    del made["q4"]  # a third engine would tell nothing new
    found = {each.name: each.metrics for each in measure_variants(made, rows(), told)}
    assert found["fp32"]["greedy_agreement"] == 1.0
    assert 0 < found["q8"]["greedy_agreement"] < 1
    assert found["q8"]["perplexity"] == pytest.approx(found["fp32"]["perplexity"], rel=0.1)
    assert found["q8"]["perplexity"] != found["fp32"]["perplexity"]
    for gate in TASKS["generation"].gates:
        assert np.isfinite(gate.measured(found["q8"], found["fp32"]))
        assert gate.measured(found["fp32"], found["fp32"]) == gate.neutral
    assert all(isinstance(each.graph, Path) for each in made.values()), "none is ever whole in memory"
    sizes = [total_bytes(each.graph) for each in made.values()]
    assert [found[name]["size_bytes"] for name in made] == sizes
    assert all(smaller < larger for larger, smaller in pairwise(sizes))
    assert all(each["latency_ms_batch_1"] > 0 and "difference_error" in each for each in found.values())
    assert all(np.isfinite(list(each.values())).all() for each in found.values())


def test_versions_are_compared_on_equal_rows(tiny_gguf: Callable[..., bytes]) -> None:
    fits, other = (tiny_gguf(**{"headrace.prompt": name}) for name in ("prompt", "question"))
    versions = [Version("v1", "d", fits), Version("v2", "d", other)]
    (found,) = compare(versions, [rows(4)])  # the other asks for a feature that is not there
    assert (found.version_id, found.rows, found.task) == ("v1", 4, "generation")
    assert found.metrics["perplexity"] > 1
