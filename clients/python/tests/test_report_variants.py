"""What the report says of variants that failed, or that answer no numbers."""

import math

from headrace_client.report.variants import variants_cards
from headrace_data.tasks import TASKS


def variant(name: str, latency: float, accuracy: float) -> dict[str, object]:
    return {"name": name, "metrics": {"latency_ms_batch_1": latency, "accuracy": accuracy, "size_bytes": 1_000.0}}


def test_what_failed_outdoes_nothing_and_what_is_no_number_is_not_drawn() -> None:
    variants = [variant("fp32", 0.04, 0.9), variant("wrong", 0.001, 0.99), variant("broken", 0.03, math.nan)]
    gates = [{"variant": name, "gate": "agreement", "passed": False} for name in ("wrong", "broken")]
    version = {"variants": variants, "gates": gates}

    text = str(variants_cards(version, {"variant": "fp32"}, TASKS["classification"].headline))

    assert "fp32 (served)" in text
    assert "wrong (failed)" in text
    assert "No variant outdoes another" in text
    assert "One that failed a gate is pale as well." in text
    assert "broken (" not in text
    assert "nan" not in text.partition("Measurements")[0]
