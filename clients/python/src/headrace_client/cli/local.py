"""The seam to the embedded platform, which is an extra: `headrace-client[local]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace_client.errors import LocalMissing, PlatformFailed, SettingInvalid

if TYPE_CHECKING:
    from headrace_local.launcher import Platform


@contextmanager
def embedded_platform() -> Iterator[Platform]:
    """Yield the embedded platform of the settings; its errors become the client's. Raises LocalMissing."""
    try:
        from headrace_local.launcher import Platform
        from headrace_local.settings import PlatformSettings
        from headrace_runtime.errors import HeadraceError, SettingsInvalid
        from headrace_runtime.settings import load_settings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("headrace_local", "headrace_runtime"):
            raise
        raise LocalMissing from error
    try:
        yield Platform(load_settings(PlatformSettings))
    except SettingsInvalid as error:
        raise SettingInvalid(str(error)) from error
    except HeadraceError as error:
        raise PlatformFailed(str(error)) from error
