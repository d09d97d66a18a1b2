"""The state folder is its owner's alone."""

import os
import stat
from pathlib import Path

import pytest
from headrace_local.errors import PlatformError
from headrace_local.private import make_private
from headrace_local.state import STATE_FILE, write


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_and_its_state_are_private(tmp_path: Path) -> None:
    home = tmp_path / "project" / ".headrace"
    make_private(home)
    write(home, {"redis_url": "redis://:secret@cache:6379"})
    assert (mode(home), mode(home / STATE_FILE)) == (0o700, 0o600)


def test_a_folder_of_an_earlier_version_is_closed(tmp_path: Path) -> None:
    home = tmp_path / ".headrace"
    home.mkdir()
    home.chmod(0o755)
    make_private(home)
    assert mode(home) == 0o700


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(PlatformError, match="expected a folder of this user"):
        make_private(tmp_path)
