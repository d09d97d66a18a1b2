"""MiniLM tuned on sentences in three ways, each in a process of its own: what is learned, what it takes, how good."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import sentences  # noqa: E402 - found through the line above

pytestmark = pytest.mark.timeout(3600)

Tuned = Callable[[str], dict[str, float]]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """What a tuning measured, and what all of them did, in a table."""
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps(sentences.rows(1800)))

    @cache
    def run(tune: str) -> dict[str, float]:
        program = str(HERE / "tuning.py")
        command = [sys.executable, "-W", "ignore", program, str(file), tune, "1"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured: dict[str, float] = json.loads(done.stdout)
        measured["run_bytes"] = max(measured[f"{phase}_bytes"] for phase in ("fit", "export", "measure"))
        print(f"{tune}: {json.dumps(measured, indent=2)}")
        return measured

    return run


def test_lora_learns_few_numbers_in_less_memory_and_is_as_good(tuned: Tuned) -> None:
    lora, full = tuned("lora"), tuned("full")
    assert lora["trained_share"] <= 0.03
    # Within a point, and two standard errors of the difference, of half a point each.
    assert lora["accuracy"] >= full["accuracy"] - 0.02
    assert lora["fit_bytes"] <= 0.3 * full["fit_bytes"]
    assert lora["run_bytes"] <= 0.5 * full["run_bytes"]
    assert lora["checkpoint_bytes"] <= 0.02 * full["checkpoint_bytes"]


def test_a_frozen_one_learns_the_head_alone(tuned: Tuned) -> None:
    frozen = tuned("frozen")
    assert frozen["trained_share"] <= 0.0002
    assert frozen["accuracy"] >= 0.7


@pytest.mark.parametrize("tune", ["lora", "full", "frozen"])
def test_the_graph_answers_as_the_network_does(tuned: Tuned, tune: str) -> None:
    assert tuned(tune)["export_difference"] <= 1e-5
