"""The chart as Helm renders it: its examples, and any other values."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate.utils  # type: ignore[import-untyped]
import pytest
import yaml
from headrace_runtime.services import SERVICES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "headrace"
EXAMPLES = tuple(sorted(path.name for path in (CHART / "examples").iterdir()))
BUILDING_S = 1_500
"""Helm may have to be built before the first test: some three minutes where nothing else runs, once for each user."""

Manifest = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(BUILDING_S))
            item.add_marker(pytest.mark.chart)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "example" in metafunc.fixturenames:
        metafunc.parametrize("example", EXAMPLES)
    if "service" in metafunc.fixturenames:
        metafunc.parametrize("service", sorted(SERVICES))


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Return a module of scripts/ by its name."""

    def load(name: str) -> ModuleType:
        folder = str(ROOT / "scripts")
        if folder not in sys.path:
            sys.path.insert(0, folder)
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def helm(script: Callable[[str], ModuleType]) -> Callable[..., str]:
    """Run Helm with arguments and return what it prints."""
    tool = script("helm")
    try:
        binary = tool.find()
    except tool.HelmMissing as reason:
        pytest.skip(str(reason))
    return lambda *arguments: str(tool.run(binary, arguments))


@pytest.fixture(scope="session")
def rendering(helm: Callable[..., str]) -> Callable[[str], str]:
    """Return what Helm makes of an example, as text."""
    texts: dict[str, str] = {}

    def render(example: str) -> str:
        if example not in texts:
            values = CHART / "examples" / example / "values.yaml"
            texts[example] = helm(
                "template", "headrace", "--namespace", "headrace", str(CHART), "--values", str(values)
            )
        return texts[example]

    return render


@lru_cache
def objects(text: str) -> list[Manifest]:
    """Return the objects of a rendered text: parsed once, by libyaml, since most tests look at the same three."""
    return [manifest for manifest in yaml.load_all(text, Loader=yaml.CSafeLoader) if manifest]


@pytest.fixture
def manifests(rendering: Callable[[str], str], example: str) -> list[Manifest]:
    """Every object of an example; not to be changed."""
    return objects(rendering(example))


@pytest.fixture(scope="session")
def render_all(
    helm: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Mapping[str, Any]], list[Manifest]]:
    """Render the default example with further values over it; the same values are rendered once."""
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    texts: dict[str, str] = {}

    def rendered(values: Mapping[str, Any]) -> list[Manifest]:
        asked = json.dumps(values)
        if asked not in texts:
            file.write_text(asked)
            files = (CHART / "examples" / "default" / "values.yaml", file)
            options = [part for path in files for part in ("--values", str(path))]
            texts[asked] = helm("template", "headrace", "--namespace", "headrace", str(CHART), *options)
        return objects(texts[asked])

    return rendered


@pytest.fixture
def render(render_all: Callable[[Mapping[str, Any]], list[Manifest]]) -> Callable[[Mapping[str, Any]], list[Manifest]]:
    """Render the default example with further values over it."""
    return render_all


@pytest.fixture(scope="session", autouse=True)
def schemas_are_read_once() -> Iterator[None]:
    """Kubernetes' schemas are read once: kubernetes-validate reads half a megabyte for each object that it checks."""
    with pytest.MonkeyPatch.context() as patch:
        read = lru_cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield


@pytest.fixture(scope="session")
def facts() -> dict[str, dict[str, Any]]:
    """What the chart takes for fixed about each service."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "files" / "services.yaml").read_text())
    return loaded


@pytest.fixture
def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The workload of each service of an example."""
    return {
        manifest["metadata"]["labels"]["app.kubernetes.io/component"]: manifest
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "StatefulSet")
    }


@pytest.fixture
def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod template of each workload, of each job and of the cron job."""
    templates = {"CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"]}
    kinds = ("Deployment", "StatefulSet", "Job", "CronJob")
    return {
        manifest["metadata"]["labels"]["app.kubernetes.io/component"]: templates.get(
            manifest["kind"], itemgetter("template")
        )(manifest["spec"])
        for manifest in manifests
        if manifest["kind"] in kinds
    }
