"""Models of language that do not load: the reason is said, and nobody waits for ever."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from headrace_engines.generator import Room
from headrace_inference.adapters.language_model import LanguageLimits, load, local
from headrace_runtime.errors import Unavailable, Unprocessable


def test_a_replica_without_the_libraries_says_what_to_install(
    tmp_path: Path, tiny_gguf: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf())
    with pytest.raises(Unprocessable, match=r"install headrace-engines\[generation\]"):
        load(partial(local, path, LanguageLimits()), LanguageLimits(), 60.0, lambda: False)


@pytest.mark.slow
def test_an_adapter_is_loaded_with_its_base(
    tmp_path: Path, tiny_gguf: Callable[..., bytes], tiny_adapter: Callable[..., bytes]
) -> None:
    base = tiny_gguf()
    (tmp_path / f"sha256:{hashlib.sha256(base).hexdigest()}").write_bytes(base)
    path = tmp_path / "adapter.onnx"
    path.write_bytes(tiny_adapter(base))
    limits = LanguageLimits(room=Room(cache_bytes=2**21, threads=1))
    model = load(partial(local, path, limits), limits, 60.0, lambda: False)
    (text,) = model.run(model.sample(8), ["text_output"])
    assert text[0]
    model.language.retire()
    path.write_bytes(tiny_adapter(tiny_gguf(seed=1)))  # its base is not there
    with pytest.raises(Unprocessable, match=r"weights sha256:.* beside"):
        load(partial(local, path, limits), limits, 60.0, lambda: False)


def test_an_engine_that_does_not_load_in_time_is_given_up(tmp_path: Path, tiny_gguf: Callable[..., bytes]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf())
    with pytest.raises(Unprocessable, match="it did not load within 0 s"):
        load(partial(local, path, LanguageLimits()), LanguageLimits(), 0.0, lambda: False)
    path.write_bytes(b"GGUF")
    with pytest.raises(Unavailable, match="the service stops"):
        load(partial(local, path, LanguageLimits()), LanguageLimits(), 60.0, lambda: True)
    for each in threading.enumerate():
        if each.name == "loading of an engine":
            each.join(30)
            assert not each.is_alive()
