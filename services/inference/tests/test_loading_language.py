"""Models of language that do not load: the reason is said, and nobody waits for ever."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from headrace_inference.adapters.language_model import LanguageLimits, load
from headrace_runtime.errors import Unavailable, Unprocessable


def test_a_replica_without_the_libraries_says_what_to_install(
    tmp_path: Path, tiny_gguf: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf())
    with pytest.raises(Unprocessable, match=r"install headrace-engines\[generation\]"):
        load(path, LanguageLimits(), 60.0, lambda: False)


def test_an_engine_that_does_not_load_in_time_is_given_up(tmp_path: Path, tiny_gguf: Callable[..., bytes]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf())
    with pytest.raises(Unprocessable, match="it did not load within 0 s"):
        load(path, LanguageLimits(), 0.0, lambda: False)
    path.write_bytes(b"GGUF")
    with pytest.raises(Unavailable, match="the service stops"):
        load(path, LanguageLimits(), 60.0, lambda: True)
    for each in threading.enumerate():
        if each.name == "loading of an engine":
            each.join(30)
            assert not each.is_alive()
