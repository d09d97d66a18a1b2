"""Cores: those of the machine, or what the container may use of them."""

from pathlib import Path

import pytest
from headrace_runtime.process import cores


@pytest.mark.parametrize(
    ("limit", "expected"), [("max 100000", 16), ("150000 100000", 2), ("5000 100000", 1), ("9900000 100000", 16)]
)
def test_a_limit_of_the_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    monkeypatch.setattr(cores, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)))
    assert cores.available_cores() == 16
    (tmp_path / "cpu.max").write_text(limit)
    assert cores.available_cores() == expected
