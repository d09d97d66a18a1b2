"""Renders the Helm chart's examples: `rendered.yaml` beside each `values.yaml` shows what Kubernetes gets."""

from __future__ import annotations

import sys

import helm
from chart import CHART

EXAMPLES = sorted(path.name for path in (CHART / "examples").iterdir())


def rendered(example: str) -> str:
    """Return what Helm makes of an example. Raises HelmMissing and HelmRefused."""
    values = CHART / "examples" / example / "values.yaml"
    return helm.run(helm.find(), ["template", *helm.RELEASE, str(CHART), "--values", str(values)])


def main() -> None:
    """Render every example."""
    for example in EXAMPLES:
        try:
            (CHART / "examples" / example / "rendered.yaml").write_text(rendered(example))
        except (helm.HelmMissing, helm.HelmRefused) as error:
            sys.exit(f"{example}: {error}")
        print(f"rendered {example}")


if __name__ == "__main__":
    main()
