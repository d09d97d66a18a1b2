"""What the report says of variants that failed, or that answer no numbers."""

import math

from headrace_client.report.variants import variants_cards
from headrace_client.views import measured_views
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


def test_what_another_class_of_processors_measured_has_cards_of_its_own() -> None:
    there = {"cpu_class": "amx-int8", "variants": [variant("fp32", 0.2, 0.9)], "gates": [], "frontier": ["fp32"]}
    version = {"variants": [variant("fp32", 0.4, 0.9)], "gates": [], "elsewhere": [there]}
    release = {"variant": "int8", "classes": {"avx2": ["int8"], "amx-int8": ["fp32"]}}

    text = str(variants_cards(version, release, TASKS["classification"].headline))

    assert text.count("Size, latency and quality") == 2
    assert "Measurements on amx-int8" in text
    assert text.count("fp32 (served)") == 1


def test_a_class_that_came_after_the_release_serves_what_every_other_does() -> None:
    both = [variant(name, 0.4, 0.9) | {"graph": None} for name in ("fp32", "int8")]
    there: dict[str, object] = {"cpu_class": "amx-int8", "frontier": [], "gates": [], "variants": both}
    common = {"version_id": "v", "model": "m", "ordinal": 1, "measure": "accuracy"}
    version = there | common | {"cpu_class": "avx2", "elsewhere": [there]}
    release = {"version_id": "v", "variant": "int8", "unmeasured": "fp32", "degrade": False}

    served = [
        (each["cpu_class"], each["variant"])
        for each in measured_views(version, release | {"classes": {"avx2": ["int8"]}})
        if each["served"]
    ]

    assert served == [("avx2", "int8"), ("amx-int8", "fp32")]
