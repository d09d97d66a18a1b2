"""A few cuts of `make decisions`: a stream that stays as it is trains nothing, one that changes is found at once."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_a_stream_that_stays_trains_nothing_and_one_that_changes_is_found_at_its_first_cut() -> None:
    told = runpy.run_path(str(Path(__file__).with_name("stationary.py")))
    causes, changed = told["run"](cuts=3, rows=300)
    assert causes == {"quiet": 3}
    assert changed.trained
    assert "age moved by" in changed.reason
