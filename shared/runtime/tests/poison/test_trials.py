"""Trials in real processes: what counts as a death, and what tells nothing."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from headrace_runtime.errors import Unavailable
from headrace_runtime.poison import trials
from headrace_runtime.poison.trials import Trial, is_transient
from headrace_runtime.process import memory
from headrace_runtime.process.memory import free_bytes, resident_bytes
from headrace_runtime.records import Record
from kafka.errors import KafkaConnectionError

CHILD = """
import errno, os, signal, time
from headrace_runtime.poison.trial_child import serve

def build(setup):
    def attempt(records, rows):
        print("a library says something")
        for record in records:
            match record.value:
                case b"same":
                    assert (record.key, record.offset, record.headers) == (None, 7, [("name", b"\\xff")]), record
                    assert rows == [3, 5]
                case b"raises": raise ValueError(setup["text"])
                case b"kills": os.kill(os.getpid(), signal.SIGSEGV)
                case b"ends": os._exit(3)
                case b"stopped": os.kill(os.getpid(), signal.SIGTERM)
                case b"full": raise OSError(errno.ENOSPC, "no space left")
                case b"eats": setup["held"] = b"x" * 400_000_000; time.sleep(60)
                case b"hangs": time.sleep(60)
    if "refuse" in setup:
        raise ValueError("no such set-up")
    return attempt

serve(build)
"""


@pytest.fixture(autouse=True)
def _child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trial_of_a_test.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def trial() -> Iterator[Trial]:
    opened = Trial("trial_of_a_test", {"text": "a bug"}, timeout_s=30)
    yield opened
    opened.close()


def record(value: bytes) -> Record:
    return Record("topic", 0, 7, None, value, [("name", b"\xff")])


def test_messages_come_through_as_they_are_and_one_process_tries_many(trial: Trial) -> None:
    assert trial.attempt([record(b"same")], [3, 5]) is None
    assert trial.attempt([record(b"")] * 1_000) is None
    assert trial.attempt([record(b"raises")]) == "ValueError: a bug"
    assert trial.attempt([record(b"same")], [3, 5]) is None


@pytest.mark.parametrize(
    ("value", "reason"), [(b"kills", "process died: SIGSEGV"), (b"ends", "process died with exit code 3")]
)
def test_a_death_is_told_and_the_next_trial_has_a_new_process(trial: Trial, value: bytes, reason: str) -> None:
    assert trial.attempt([record(b""), record(value)]) == reason
    assert trial.attempt([record(b"")]) is None


@pytest.mark.slow
def test_what_is_no_fault_of_the_messages_tells_nothing(trial: Trial) -> None:
    for value in (b"full", b"stopped"):
        with pytest.raises(Unavailable):
            trial.attempt([record(value)])
    with pytest.raises(Unavailable, match="did not start"):
        Trial("trial_of_a_test", {"refuse": True}).attempt([record(b"")])


def test_too_long_and_too_much_are_deaths(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "free_bytes", lambda: 300_000_000)
    assert trial.attempt([record(b"eats")]) == "the process took more than 240 MB of memory"
    hurried = Trial("trial_of_a_test", {"text": ""}, timeout_s=0.2)
    assert hurried.attempt([record(b"hangs")]) == "the process did not end within 0 s"
    hurried.close()


def test_nobody_is_left_when_the_parent_goes(trial: Trial) -> None:
    trial.attempt([record(b"")])
    process = trial._process
    assert process is not None
    assert process.stdin is not None
    assert resident_bytes(process.pid) > 1_000_000 or sys.platform != "linux"
    trial._tell({"records": [trials._values(record(b"hangs"))], "rows": None})
    process.stdin.close()
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (KafkaConnectionError("away"), True),
        (Unavailable("away"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(28, "no space left on device"), True),
        (OSError("Expected to be able to read 8 bytes, got 4"), False),
        (ValueError("a bug"), False),
        (MemoryError(), False),
    ],
)
def test_only_what_a_process_leans_on_is_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_too_little_memory_tells_nothing(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "resident_bytes", lambda _: 100_000_000)
    monkeypatch.setattr(trials, "free_bytes", lambda: 160_000_000)
    with pytest.raises(Unavailable, match="of memory for a trial to tell anything, got"):
        trial.attempt([record(b"")])
    monkeypatch.setattr(trials, "free_bytes", lambda: 170_000_000)
    assert trial.attempt([record(b"")]) is None


def test_free_memory_is_known() -> None:
    assert 0 < free_bytes() <= sys.maxsize
    assert signal.SIGTERM in trials._GOOD_ORDER


def test_a_container_has_what_its_limit_leaves_and_what_it_keeps_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    for name, content in (("max", "9000"), ("current", "8900"), ("stat", "anon 300\ninactive_file 8500")):
        (tmp_path / f"memory.{name}").write_text(content + "\n")
    assert free_bytes() == 8_600
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes() > 9_000
