"""Which brokers a sample is read from, and how much of each partition; reading itself is tested on a real broker."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from headrace_client import sampling
from headrace_client.brokers import kafka_settings
from headrace_client.errors import SettingInvalid
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 200))
def test_partitions_give_equal_shares_as_far_as_they_can(available: list[int], count: int) -> None:
    shares = sampling.share_out(dict(enumerate(available)), count)
    assert sum(shares.values()) == min(count, sum(available))
    assert all(0 <= shares[place] <= there for place, there in enumerate(available))
    unexhausted = [share for place, share in shares.items() if share < available[place]]
    assert not unexhausted or max(shares.values()) - min(unexhausted) <= 1


def brokers() -> str:
    return str(kafka_settings("init").kafka_bootstrap_servers)


def test_the_setting_wins_over_the_embedded_platform_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert brokers() == "127.0.0.1:9092"
    (home / "platform.json").write_text("no JSON")
    assert brokers() == "127.0.0.1:9092"
    (home / "platform.json").write_text(json.dumps({"kafka_bootstrap_servers": "127.0.0.1:4711"}))
    assert brokers() == "127.0.0.1:4711"
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    assert brokers() == "kafka:9092"


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA_SECURITY_PROTOCOL", "TLS")
    with pytest.raises(SettingInvalid, match="HEADRACE_KAFKA_SECURITY_PROTOCOL"):
        sampling.newest_records("t", 1)


@pytest.mark.parametrize("timestamp", [-(2**63), -1, 0, 2**63 - 1])
def test_a_record_is_shown_whatever_time_its_producer_sent(timestamp: int) -> None:
    record = SimpleNamespace(topic="t", partition=0, offset=7, timestamp=timestamp, key=None, value=b"1", headers=[])
    assert sampling.record_view(record)["time"] in ("1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")
