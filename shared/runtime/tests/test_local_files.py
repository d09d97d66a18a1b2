"""Working folders go with their process, however it ends."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from headrace_runtime.local_files import working_folder

HOLDS = """
import sys
from headrace_runtime.local_files import working_folder
with working_folder() as folder:
    (folder / "weights").write_bytes(b"weights")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_once_it_is_done_with(temporary: Path) -> None:
    with working_folder() as folder:
        (folder / "weights").write_bytes(b"weights")
        with working_folder() as other:
            assert other != folder
            assert (folder / "weights").exists(), "its process goes on"
    assert not list(temporary.iterdir())


def test_that_of_a_process_that_was_killed_goes_with_the_next_one(temporary: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with working_folder():
            assert left.exists(), "it runs"
        process.kill()
        process.wait()
    assert (left / "weights").exists()
    with working_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_one_that_another_takes_for_left_before_it_is_locked_is_not_used(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make, others = list[str](), tempfile.mkdtemp, list[int]()

    def taken(prefix: str) -> str:
        made.append(make(prefix=prefix))
        if len(made) == 1:
            others.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(others[0], fcntl.LOCK_EX)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    with working_folder() as folder:
        assert str(folder) == made[1]
    os.close(others[0])
