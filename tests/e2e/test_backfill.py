"""History from a file through the command line: into a dataset, a version, and what `where` says of a row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "penguins-before"


def test_a_pipeline_learns_from_a_file_before_any_record_came(headrace: Callable[..., Any], tmp_path: Path) -> None:
    document = (EXAMPLES / "penguins-species" / "pipeline.yaml").read_text()
    assert all(part in document for part in ("name: penguins-species", "topic: penguins", "prepare:\n"))
    document = document.replace("penguins-species", NAME).replace("topic: penguins", f"topic: {NAME}")
    path = tmp_path / "pipeline.yaml"
    path.write_text(document if "window:" in document else document.replace("prepare:\n", "prepare:\n  window: all\n"))
    applied = headrace("apply", str(path), "--create-topic")
    assert applied.returncode == 0, applied.stderr

    birds = [json.loads(line) for line in (EXAMPLES / "penguins" / "rows.jsonl").read_text().splitlines()]
    history = tmp_path / "birds 2024.csv"
    history.write_text(table([*birds, {**birds[0], "bill_length_mm": -1.0}]))
    command = ("backfill", NAME, str(history), "--json")
    filled = headrace(*command)
    assert filled.returncode == 0, filled.stdout + filled.stderr
    found = json.loads(filled.stdout)
    assert found["backfilled"]["rows"] + sum(found["backfilled"]["rejected"].values()) == len(birds) + 1
    assert sum(found["dataset"]["rows"].values()) == found["backfilled"]["rows"] > 300
    assert found["dataset"]["sources"] == []
    again = json.loads(headrace(*command).stdout)
    assert (again["backfilled"]["rows"], again["backfilled"]["known"]) == (0, found["backfilled"]["rows"])
    assert again["dataset"]["dataset_id"] == found["dataset"]["dataset_id"]

    letters = json.loads(headrace("dead", "list", NAME, "--where", "stage=backfill", "--json").stdout)
    assert letters[-1]["origin"] == {"topic": history.name, "partition": 0, "offset": len(birds)}
    told = {row: json.loads(headrace("where", f"{history.name}:0:{row}", "--json").stdout) for row in (0, len(birds))}
    assert (told[0][0]["pipeline"], told[0][0]["dataset_id"]) == (NAME, found["dataset"]["dataset_id"])
    assert told[len(birds)][0]["rejection"]["rule"] == "outOfRange"
    waited = headrace("wait", NAME, "--until", "trained", "--timeout", "150s", "--json")
    assert waited.returncode == 0, waited.stdout + waited.stderr

    # One of the birds is forgotten, and with it the file that it came in.
    asked = headrace("forget", NAME, "--yes", "-o", str(tmp_path / "proof.json"), stdin=f"{birds[0]['id']}\n")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert [segment["rows"] for segment in proof["segments"]] == [1]
    assert [version["ordinal"] for version in proof["versions"]] == [1]
    assert "file" in {each["kind"] for each in proof["erased"]}
    assert {NAME, f"headrace.records.{NAME}.raw.v1"} < {each["topic"] for each in proof["topics"]}
    assert proof["left"] == []
    assert birds[0]["id"] not in asked.stdout + json.dumps(proof)
    assert json.loads(headrace("get", "forgotten", NAME, "--json").stdout) == [proof]
    assert "version 1 of" in headrace("get", "versions").stdout
    fate = json.loads(headrace("where", f"{history.name}:0:0", "--json").stdout)[0]
    assert fate["left_out"] == "forgotten"
    once_more = json.loads(headrace(*command).stdout)
    assert once_more["backfilled"]["known"] == found["backfilled"]["rows"]
    assert once_more["dataset"]["dataset_id"] != found["dataset"]["dataset_id"]
    assert sum(once_more["dataset"]["rows"].values()) == sum(found["dataset"]["rows"].values()) - 1


def table(rows: list[dict[str, Any]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()
