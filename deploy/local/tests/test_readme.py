"""The README's settings table is the one that the settings class gives."""

from __future__ import annotations

from pathlib import Path

from headrace_local.settings import PlatformSettings
from headrace_runtime.settings import settings_table

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_settings_table_is_the_code_s() -> None:
    table = README.read_text().split("<!-- settings:begin -->\n")[1].split("\n<!-- settings:end -->")[0]
    assert table == settings_table(PlatformSettings)
