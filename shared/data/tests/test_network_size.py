"""How large a network becomes, and what is refused before anything is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from headrace_data.errors import SpecInvalid
from headrace_data.spec import CnnNetwork, MlpNetwork, load_pipeline, parse_canonical
from headrace_data.spec.network_size import count_parameters, row_values

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_parameters_are_weights_and_biases() -> None:
    assert count_parameters(MlpNetwork(kind="mlp", hidden=(5, 4)), (3,), 2) == (3 + 1) * 5 + (5 + 1) * 4 + (4 + 1) * 2
    assert count_parameters(MlpNetwork(kind="mlp", hidden=()), (3,), 1) == 4
    image = CnnNetwork(kind="cnn", channels=(2, 4), hidden=(6,))
    assert count_parameters(image, (1, 8, 8), 10) == 10 * 2 + 19 * 4 + (4 * 2 * 2 + 1) * 6 + 7 * 10


def test_layers_tell_their_values() -> None:
    assert row_values(MlpNetwork(kind="mlp", hidden=(5, 4)), (3,), 2) == [3, 5, 4, 2]
    image = CnnNetwork(kind="cnn", channels=(2, 4), hidden=(6,))
    assert row_values(image, (1, 8, 8), 10) == [64, 128, 64, 16, 6, 10]


@pytest.mark.parametrize(
    ("network", "least"),
    [
        ("{kind: mlp, hidden: [1000000, 1000000]}", "1,000,067,000,001"),
        ("{kind: mlp, hidden: [500000000]}", "33,000,000,001"),
        ("{kind: cnn, channels: [30000, 30000], hidden: []}", "8,100,"),
        ("{kind: cnn, channels: [4], hidden: [1000000, 3000]}", "3,"),
        ("{kind: residual, channels: [16, 20000]}", "10,"),
    ],
)
def test_a_network_that_no_version_can_hold_is_refused(network: str, least: str) -> None:
    document = (EXAMPLES / "digits" / "pipeline.yaml").read_text()
    before = next(line for line in document.splitlines() if line.strip().startswith("network:"))
    with pytest.raises(SpecInvalid, match=f"expected at most 2,000,000,000 parameters, got at least {least}"):
        load_pipeline(document.replace(before, f"  network: {network}"))


def test_a_large_network_that_a_version_can_hold_is_not_refused() -> None:
    document = (EXAMPLES / "digits" / "pipeline.yaml").read_text()
    before = next(line for line in document.splitlines() if line.strip().startswith("network:"))
    load_pipeline(document.replace(before, "  network: {kind: mlp, hidden: [20000, 20000]}"))


def test_a_spec_that_was_applied_before_stays_readable() -> None:
    document = (EXAMPLES / "digits" / "pipeline.yaml").read_bytes()
    plain = json.loads(load_pipeline(document).canonical_json())
    plain["train"]["network"] = {**plain["train"]["network"], "hidden": [1_000_000, 1_000_000]}
    assert parse_canonical(json.dumps(plain).encode()).train.network.hidden == (1_000_000, 1_000_000)
