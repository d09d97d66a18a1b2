"""Where the client looks for the platform."""

from __future__ import annotations

import json

import pytest
from headrace_client import Addresses, find_addresses
from headrace_client.errors import SettingInvalid


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    addresses = {"ingestion": "127.0.0.1:4001", "registry": "127.0.0.1:4002", "inference": "127.0.0.1:4003"}
    (tmp_path / "home" / "platform.json").write_text(json.dumps({"id": "x", "addresses": addresses}))
    return tmp_path / "home"


def test_defaults(tmp_path):
    environment = {"HEADRACE_HOME": str(tmp_path / "none")}
    assert find_addresses(environment) == Addresses("127.0.0.1:7020", "127.0.0.1:8001", "127.0.0.1:7010")


def test_a_platform_that_runs_here_is_found(home):
    assert find_addresses({"HEADRACE_HOME": str(home)}) == Addresses(
        "127.0.0.1:4002", "127.0.0.1:4003", "127.0.0.1:4001"
    )


def test_the_home_is_in_the_current_folder(home, monkeypatch):
    home.rename(home.parent / ".headrace")
    monkeypatch.chdir(home.parent)
    assert find_addresses({}).registry == "127.0.0.1:4002"


def test_a_setting_wins(home):
    environment = {"HEADRACE_HOME": str(home), "HEADRACE_INFERENCE_ADDRESS": "serving.example:443"}
    assert find_addresses(environment) == Addresses("127.0.0.1:4002", "serving.example:443", "127.0.0.1:4001")


@pytest.mark.parametrize("address", ["host", "host:", ":80", "host:x", "host:0", "host:65536", "host:٣"])
def test_an_address_needs_host_and_port(tmp_path, address):
    environment = {"HEADRACE_HOME": str(tmp_path), "HEADRACE_INFERENCE_ADDRESS": address}
    with pytest.raises(SettingInvalid, match=r"^HEADRACE_INFERENCE_ADDRESS: expected HOST:PORT .*, got"):
        find_addresses(environment)


@pytest.mark.parametrize("text", ["{", "[]", '{"addresses": 3}', "{}"])
def test_a_file_that_no_platform_wrote(home, text):
    (home / "platform.json").write_text(text)
    with pytest.raises(SettingInvalid, match=r"platform\.json: expected"):
        find_addresses({"HEADRACE_HOME": str(home)})
