"""Machines know each other's work by what they share."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.settings import load_settings
from headrace_trainer.adapters.meeting import Meeting, taken
from headrace_trainer.settings import Settings

SECRET = "sixteen characters"
PATIENCE = timedelta(seconds=10)


def test_a_machine_takes_what_is_signed_and_nothing_else() -> None:
    meeting = Meeting.called("run", nodes=2)
    info = meeting.next_rendezvous()
    assert (info.rank, info.world_size) == (0, 2)
    address = info.bootstrap_store_info.master_addr, info.bootstrap_store_info.master_port
    meeting.hand_out({"run_id": "run", "attempt": 1}, 3, SECRET)
    _, assignment, processes = taken(address, SECRET, PATIENCE)
    assert (assignment, processes) == ({"run_id": "run", "attempt": 1}, 3)
    with pytest.raises(ValueError, match="expected one that HEADRACE_MEETING_SECRET signs"):
        taken(address, "another secret of many", PATIENCE)


def test_where_nobody_meets_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RuntimeError):
        taken(("127.0.0.1", port), SECRET, timedelta(milliseconds=100))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "HEADRACE_MEETING: expected host:port"),
        ({"MEETING": "here:0"}, "HEADRACE_MEETING: expected host:port"),
        ({"MEETING": "here:80", "MEETING_SECRET": "short"}, "HEADRACE_MEETING_SECRET: expected 16 characters"),
        ({"MEETING": "here:80", "MEETING_SECRET": SECRET, "NODE": "2"}, "HEADRACE_NODE: expected one of 0 to 1"),
    ],
)
def test_machines_that_could_not_meet_do_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"NODES": "2", **given}.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    with pytest.raises(SettingsInvalid, match=expected):
        load_settings(Settings)
