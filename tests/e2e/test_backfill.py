"""A sheet from its file to a served model by three commands, and history from another file before what was pushed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = {
    "id": "_id",
    "island": "Île",
    "bill_length_mm": "bill length (mm)",
    "bill_depth_mm": "bill depth (mm)",
    "flipper_length_mm": "Flügel",
    "body_mass_g": "Gewicht (g)",
    "sex": "@sex",
    "species": "Espèce",
}


def test_a_sheet_becomes_a_model_and_history_comes_before_it(headrace: Callable[..., Any], tmp_path: Path) -> None:
    def done(*command: str) -> Any:
        result = headrace(*command, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    birds = [json.loads(line) for line in (EXAMPLES / "penguins" / "rows.jsonl").read_text().splitlines()]
    of_now, of_before = birds[1::2], [*birds[::2], {**birds[0], "species": None}]
    now, before, document = tmp_path / "Vögel 2025.csv", tmp_path / "birds 2024.csv", tmp_path / "birds.yaml"
    now.write_bytes(sheet(of_now))
    before.write_bytes(sheet(of_before))
    drafted = headrace("init", "--from", str(now), "--output", str(document), "--label", "Espèce")
    assert drafted.returncode == 0, drafted.stderr
    document.write_text(re.sub("epochs: .*", "epochs: 25", document.read_text()).replace("{kind: int8-dynamic}", ""))
    name = done("apply", str(document), "--create-topic")["pipeline"]
    (pushed,) = done("push", name, str(now))["files"]
    assert (pushed["rows"], pushed["accepted"], pushed["again"]) == (len(of_now), len(of_now), 0)
    (again,) = done("push", name, str(now))["files"]
    assert (again["accepted"], again["again"]) == (len(of_now), len(of_now))
    waited = done("wait", name, "--timeout", "150s")
    assert sum(waited["dataset"]["rows"].values()) == len(of_now)
    assert waited["version"]["metrics"]["accuracy"] > 0.8
    answers = done("predict", name, str(now), "--batch", "64")
    right = [answer["label"] == bird["species"] for answer, bird in zip(answers, of_now, strict=True)]
    assert sum(right) > 0.9 * len(of_now)

    # Nothing more is trained: the datasets themselves are looked at.
    document.write_text(document.read_text().replace("  window: all", "  minClassRows: 5000\n  window: all"))
    assert done("apply", str(document))["changed"]
    command = ("backfill", name, str(before))
    filled = done(*command)
    told = filled["backfilled"]
    assert (told["rows"], sum(told["rejected"].values())) == (len(of_before) - 1, 1)
    assert sum(filled["dataset"]["rows"].values()) == len(birds)
    repeated = done(*command)
    assert (repeated["backfilled"]["rows"], repeated["backfilled"]["known"]) == (0, told["rows"])
    assert repeated["dataset"]["dataset_id"] == filled["dataset"]["dataset_id"]
    letters = done("dead", "list", name, "--where", "stage=backfill")
    assert letters[-1]["origin"] == {"topic": before.name, "partition": 0, "offset": len(of_before) - 1}
    fates = {row: done("where", f"{before.name}:0:{row}") for row in (0, len(of_before) - 1)}
    assert (fates[0][0]["pipeline"], fates[0][0]["dataset_id"]) == (name, filled["dataset"]["dataset_id"])
    assert fates[len(of_before) - 1][0]["rejection"]["rule"] == "missing"

    # One of the birds is forgotten, and with it the file that it came in.
    asked = headrace("forget", name, "--yes", "-o", str(tmp_path / "proof.json"), stdin=f"{birds[0]['id']}\n")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert [segment["rows"] for segment in proof["segments"]] == [1]
    assert proof["versions"] == []  # the only one learned before its file came
    assert "file" in {each["kind"] for each in proof["erased"]}
    assert {name, f"headrace.records.{name}.raw.v1"} < {each["topic"] for each in proof["topics"]}
    assert proof["left"] == []
    assert birds[0]["id"] not in asked.stdout + json.dumps(proof)
    assert done("get", "forgotten", name) == [proof]
    (fate,) = done("where", f"{before.name}:0:0")
    assert fate["left_out"] == "forgotten"
    once_more = done(*command)
    assert once_more["backfilled"]["known"] == told["rows"]
    assert once_more["dataset"]["dataset_id"] != filled["dataset"]["dataset_id"]
    assert sum(once_more["dataset"]["rows"].values()) == len(birds) - 1


def sheet(birds: list[dict[str, Any]]) -> bytes:
    """Return birds as a spreadsheet writes them, where a comma divides whole and fraction."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(NAMES.values())
    for bird in birds:
        cells = ["" if bird[name] is None else bird[name] for name in NAMES]
        writer.writerow([f"{each:.1f}".replace(".", ",") if isinstance(each, float) else each for each in cells])
    return text.getvalue().encode("utf-8-sig")
