import pytest
from headrace_data.spec.scalars import format_duration, format_size, parse_duration, parse_size
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=365 * 86_400_000))
def test_durations_have_one_text(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)

    assert parse_duration(text) == milliseconds / 1000
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize(("text", "seconds"), [("3s", 3), ("5m", 300), ("1h", 3600), ("250ms", 0.25), ("2d", 172_800)])
def test_durations_parse_to_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "3", "s", "-3s", "3 s", "3.5s", "٣s", "9" * 99 + "s", 3, None, "366d"])
def test_other_durations_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=999_999), st.sampled_from(["MB", "GB", "MiB", "GiB"]))
def test_sizes_have_one_text(number: int, unit: str) -> None:
    size_bytes = parse_size(f"{number}{unit}")
    text = format_size(size_bytes)
    assert parse_size(text) == size_bytes
    assert format_size(parse_size(text)) == text


@pytest.mark.parametrize("value", ["", "8", "GB", "-8GB", "8 GB", "1.5GB", "0MB", "8gb", 8, None, "9" * 99 + "GB"])
def test_other_sizes_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)
