"""`init --from`: a file that a spreadsheet wrote, drafted into a pipeline that takes its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from headrace_client.drafting import draft_pipeline
from headrace_data.spec import load_pipeline

HEADER = "Kunden-Nr;Ort;Alter;Umsatz (€);Bemerkung;Gekündigt"


def sheet(path: Path, encoding: str = "utf-8-sig") -> Path:
    lines = [
        ";".join(
            (
                f"{number:04}",
                ("Köln", "Bonn")[number % 2],
                str(number % 60) if number % 20 else "k. A.",
                f"{number % 90},5",
                f"mail{number}@acme.example",
                ("ja", "nein")[number % 3 > 0],
            )
        )
        for number in range(200)
    ]
    path.write_bytes("\r\n".join([HEADER, *lines, "0200;zu;kurz"]).encode(encoding))
    return path


def test_a_sheet_becomes_a_pipeline_of_its_rows(headrace, tmp_path) -> None:
    file, output = sheet(tmp_path / "Kunden 2025.csv"), tmp_path / "kunden.yaml"
    done = headrace("init", "--from", str(file), "--output", str(output), "--label", "Gekündigt")
    assert done.exit_code == 0, done.stderr
    pipeline = load_pipeline(output.read_bytes())
    told = pipeline.stream.format_told
    assert (pipeline.name, pipeline.stream.topic) == ("kunden-2025", "kunden-2025")
    assert (told["kind"], told["delimiter"], ";".join(told["columns"])) == ("csv", ";", HEADER)
    assert [(field.name, field.type, field.role) for field in pipeline.stream.fields] == [
        ("Kunden-Nr", "string", "id"),
        ("Ort", "string", "feature"),
        ("Alter", "int64", "feature"),
        ("Umsatz", "float32", "feature"),
        ("Gekundigt", "string", "label"),
    ]
    assert "Drafted by `headrace init` from all 201 rows of Kunden 2025.csv." in output.read_text()
    assert "1 of them would be rejected: columns 1" in done.stderr
    assert "personal data in 'Bemerkung': email 200" in done.stderr
    assert f"apply {output} --create-topic` and `headrace push kunden-2025 {file}`" in done.stdout.replace("\n", "")


def test_what_cannot_be_drafted_from_says_why(headrace, tmp_path) -> None:
    file = sheet(tmp_path / "ansi.csv", "windows-1252")
    refused = headrace("init", "--from", str(file))
    assert (refused.exit_code, "say --encoding windows-1252" in refused.stderr) == (1, True)
    drafted = headrace("init", "--from", str(file), "--encoding", "windows-1252", "--topic", "customers")
    assert drafted.exit_code == 0, drafted.stderr
    assert load_pipeline(drafted.stdout).name == "customers"
    assert headrace("init").exit_code == 2
    # What Excel calls Unicode text says so itself.
    drafted = headrace("init", "--from", str(sheet(tmp_path / "unicode.csv", "utf-16")), "--label", "Gekündigt")
    assert (drafted.exit_code, load_pipeline(drafted.stdout).stream.label.name) == (0, "Gekundigt")
    refused = headrace("init", "--from", str(sheet(tmp_path / "bare.csv", "utf-16-le")))
    assert (refused.exit_code, "say --encoding utf-16-le" in refused.stderr) == (1, True)
    rows = tmp_path / "rows.csv"
    rows.write_text("".join(f"k{n},{n}.5,{'ab'[n % 2]}\n" for n in range(30)))
    drafted = headrace("init", "--from", str(rows))
    assert "the first line is taken for the names of the columns, 'k0', '0.5', 'a': if it is a row" in drafted.stderr


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_lines_are_drafted_as_records_of_a_topic_are(headrace, tmp_path, suffix) -> None:
    file = tmp_path / f"m.{suffix}"
    file.write_text("\n".join(json.dumps({"id": f"m{n}", "a": {"b": n}, "kind": "xy"[n % 2]}) for n in range(50)))
    drafted = headrace("init", "--from", str(file))
    assert drafted.exit_code == 0, drafted.stderr
    pipeline = load_pipeline(drafted.stdout)
    assert (pipeline.stream.format, "a.b AS b" in (pipeline.stream.select or "")) == ("json", True)


def test_messages_with_many_records_are_drafted_as_lines() -> None:
    lines = [json.dumps({"id": f"m{n}", "x": n, "kind": "xy"[n % 2]}).encode() for n in range(100)]
    values = [b"\n".join(lines[start : start + 5]) for start in range(0, 100, 5)]
    draft = draft_pipeline("penguins", [*values, b"{"])
    assert (draft.rejected, draft.records) == ({"json": 1}, 101)
    assert load_pipeline(draft.text).stream.has_lines
