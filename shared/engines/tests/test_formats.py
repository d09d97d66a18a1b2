"""Which engine a model is for, told by its bytes."""

from pathlib import Path

import pytest
from headrace_engines import GGUF, ONNX, format_of
from headrace_engines.errors import Unanswerable
from headrace_engines.generator import Sampling


@pytest.mark.parametrize(
    ("data", "expected"), [(b"GGUF\3\0\0\0", GGUF), (b"\x08\x0a", ONNX), (b"GGU", ONNX), (b"", ONNX)]
)
def test_a_format_is_told_by_the_first_bytes(data: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(data)
    assert format_of(data) == format_of(file) == expected


def test_sampling_names_every_field_that_is_out_of_range() -> None:
    with pytest.raises(Unanswerable) as caught:
        Sampling(0, temperature=float("nan"), top_p=0.0, seed=-1, stop=("",))
    assert [part.split(":")[0] for part in str(caught.value).split("; ")] == [
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
    ]
