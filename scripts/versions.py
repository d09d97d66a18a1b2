"""One version for everything: that of the root's pyproject.toml, written into every package and the Helm chart."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_PACKAGE = re.compile(r'^(version = )".*"$', re.MULTILINE)
OF_CHART = re.compile(r"^((?:version|appVersion): ).*$", re.MULTILINE)


def version(root: Path = ROOT) -> str:
    """Return the version that the next release has."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def pages(root: Path = ROOT) -> Mapping[Path, str]:
    """Return the files that repeat the version, with the one of the root."""
    wanted = version(root)
    texts = {path: path.read_text() for path in root.glob("*/*/pyproject.toml")}
    packages = {
        path: OF_PACKAGE.sub(rf'\g<1>"{wanted}"', text, count=1)
        for path, text in texts.items()
        if "[build-system]" in text
    }
    chart = root / "deploy" / "helm" / "headrace" / "Chart.yaml"
    return packages | {chart: OF_CHART.sub(rf"\g<1>{wanted}", chart.read_text())}
