"""The siege in short: each attack for half a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_short_siege_leaves_nothing() -> None:
    command = [sys.executable, str(Path(__file__).with_name("siege.py")), "--seconds", "0.5", "--untimed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
