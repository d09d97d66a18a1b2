"""The object store of the platform, where commands keep files that services read.

Needs an extra of `headrace-client` that brings it, such as `kafka`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace_client.addresses import PLATFORM_FILE, home_folder
from headrace_client.errors import ExtraMissing, SettingInvalid, StoreFailed

if TYPE_CHECKING:
    from headrace_runtime.object_store import ObjectStore

STORE_SETTING = "HEADRACE_STORE_URL"


@contextmanager
def opened_store(command: str, extra: str = "kafka") -> Iterator[ObjectStore]:
    """Open the platform's store for a command, which an extra brings.

    Raises SettingInvalid without a store, StoreFailed for whatever fails within the block, and ExtraMissing.
    """
    try:
        from headrace_runtime.errors import HeadraceError
        from headrace_runtime.object_store import ObjectStore
    except ModuleNotFoundError as error:
        raise ExtraMissing(command, extra) from error
    try:
        yield ObjectStore(os.environ.get(STORE_SETTING) or _of_platform())
    except HeadraceError as error:
        raise StoreFailed(f"{error}; {STORE_SETTING} names the object store") from error


def _of_platform() -> str:
    path = home_folder() / PLATFORM_FILE
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        state = None
    url = state.get("store_url") if isinstance(state, dict) else None
    if not isinstance(url, str) or not url:
        raise SettingInvalid(
            f"expected {STORE_SETTING} with the object store of the platform, as its services have it, got none: "
            f"{path} names none either"
        )
    return url
