"""Where the platform answers: settings first, then the embedded platform's own file, then the defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace_client.errors import SettingInvalid

REGISTRY_SETTING = "HEADRACE_REGISTRY_ADDRESS"
INFERENCE_SETTING = "HEADRACE_INFERENCE_ADDRESS"
INGESTION_SETTING = "HEADRACE_INGESTION_ADDRESS"
HOME_SETTING = "HEADRACE_HOME"

PLATFORM_FILE = "platform.json"
"""File in the home folder that the embedded platform keeps while it runs: where Kafka and the services are."""

DEFAULT_REGISTRY = "127.0.0.1:7020"
DEFAULT_INFERENCE = "127.0.0.1:8001"
DEFAULT_INGESTION = "127.0.0.1:7010"


@dataclass(frozen=True)
class Addresses:
    """`host:port` of the services that a client calls."""

    registry: str
    inference: str
    ingestion: str = DEFAULT_INGESTION


def home_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder that holds the embedded platform's state: HEADRACE_HOME, or `./.headrace`."""
    environment = os.environ if environment is None else environment
    return Path(environment.get(HOME_SETTING) or ".headrace").expanduser()


def find_addresses(environment: Mapping[str, str] | None = None) -> Addresses:
    """Return the addresses to call.

    A setting wins over `platform.json` in the home folder, which the embedded platform keeps while it runs, and that
    wins over the default. Raises SettingInvalid when an address has no port or the file cannot be read.
    """
    environment = os.environ if environment is None else environment
    found = _platform_file(home_folder(environment))
    return Addresses(
        registry=_address(environment, REGISTRY_SETTING, found.get("registry"), DEFAULT_REGISTRY),
        inference=_address(environment, INFERENCE_SETTING, found.get("inference"), DEFAULT_INFERENCE),
        ingestion=_address(environment, INGESTION_SETTING, found.get("ingestion"), DEFAULT_INGESTION),
    )


def check_address(address: str, origin: str) -> str:
    """Return the address when it is `host:port`; otherwise raise SettingInvalid naming the origin."""
    host, separator, port = address.rpartition(":")
    if not (host and separator and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SettingInvalid(f"{origin}: expected HOST:PORT such as {DEFAULT_REGISTRY}, got '{address}'")
    return address


def _address(environment: Mapping[str, str], setting: str, found: str | None, default: str) -> str:
    if given := environment.get(setting):
        return check_address(given, setting)
    return check_address(found, PLATFORM_FILE) if found else default


def _platform_file(home: Path) -> dict[str, str]:
    path = home / PLATFORM_FILE
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingInvalid(f"{path}: expected the embedded platform's addresses, got: {error}") from error
    addresses = document.get("addresses") if isinstance(document, dict) else None
    if not isinstance(addresses, dict):
        raise SettingInvalid(f"{path}: expected an object with 'addresses', got something else")
    return {name: address for name, address in addresses.items() if isinstance(address, str)}
