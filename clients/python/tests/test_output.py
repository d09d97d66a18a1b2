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
