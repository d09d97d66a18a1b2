"""What a terminal gets to see."""

from __future__ import annotations

import pytest
from headrace_client.cli.output import error_line, note, plain, print_parts, say, table

EVIL = "name\x1b]0;title\x07\r[red]é\u202e"
SHOWN = r"name\x1b]0;title\x07\r[red]é\u202e"


def test_texts_from_records_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    note(f"{EVIL}\nsecond line")
    error_line(EVIL)
    print_parts([table(["=name"], [[plain(EVIL)]])])
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == SHOWN
    assert out.splitlines()[-1].strip() == SHOWN
    assert err.splitlines() == [SHOWN, "second line", f"error: {SHOWN}"]


def test_an_offset_is_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    say("scans:100:7")
    error_line("scans:100:7")
    print_parts([table(["=record", "topic"], [["scans:100:7", "a:b:c"]]), "scans:100:7"])
    out, err = capsys.readouterr()
    assert out.count("scans:100:7") == 3
    assert "a:b:c" in out
    assert err == "error: scans:100:7\n"


def test_a_narrow_terminal_takes_no_column_and_no_digit_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_parts([table(["model", ">rmse", "=state"], [["houses-of-the-north", "165023.99", "[green]released[/]"]])])
    header, _, first, *rest = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "rmse", "state"]
    assert first.split() == ["houses-o", "165023.99", "released"]
    assert [line.strip() for line in rest] == ["f-the-no", "rth"]


def test_a_pipe_gets_each_row_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    reason = "expected a number " * 20
    print_parts([table(["=rule", "reason"], [["type", reason]]), reason])
    out = capsys.readouterr().out.splitlines()
    assert out[2].startswith(f"type  {reason.strip()}")
    assert out[-1].strip() == reason.strip()
