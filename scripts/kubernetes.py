"""Kubernetes' own API server, controllers and scheduler, and JobSet's, built by Go into the user's cache.

Some 1,300 seconds of CPU, once for each user and version, and 200 for JobSet's: 450 MB are kept. Beside them the files
that define objects which are not Kubernetes' own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

VERSION = "1.37.2"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
STAGED = re.compile(r"^\s*(k8s\.io/[\w./-]+) v0\.0\.0$", re.MULTILINE)
"""Modules that Kubernetes keeps in its own repository, and releases as v0.x for every v1.x."""
JOBSET = "sigs.k8s.io/jobset@v0.11.1"
"""The module that makes pods of JobSets."""
DEFINITIONS = {
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    JOBSET: ("config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml",),
}
"""Of the objects that are not Kubernetes' own, by the Go module that holds them."""


class KubernetesMissing(Exception):
    """There is no control plane, and none could be built; says why."""


def find() -> Path:
    """Return the folder with the programs of the pinned version, building it when there is none.

    Raises KubernetesMissing.
    """
    folder = _cache() / f"kubernetes-v{VERSION}"
    if not all((folder / program).exists() for program in PROGRAMS):
        _build(folder)
    return folder


def find_jobset() -> Path:
    """Return the controller of JobSets, building it when there is none. Raises KubernetesMissing."""
    folder = _cache() / f"jobset-{JOBSET.rpartition('@')[2]}"
    if not (folder / "jobset").exists():
        folder.mkdir(parents=True, exist_ok=True)
        module, _, version = JOBSET.partition("@")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            within = Path(name)
            (within / "go.mod").write_text(f"module cluster\n\ngo 1.26.0\n\nrequire {module} {version}\n")
            _go(["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", "jobset", module], within)
            (within / "jobset").replace(folder / "jobset")
    return folder / "jobset"


def jobset_webhooks() -> Path:
    """Return the file that declares what JobSet's controller fills in and checks. Raises KubernetesMissing."""
    return Path(_download(JOBSET)["Dir"]) / "config/components/webhook/manifests.yaml"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace"


def definitions() -> list[Path]:
    """Return the files that define KEDA's, Prometheus Operator's and JobSet's objects. Raises KubernetesMissing."""
    found = []
    for module, files in DEFINITIONS.items():
        folder = Path(_download(module)["Dir"])
        found += [folder / file for file in files]
    return found


def _build(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    staged = STAGED.findall(Path(_download(f"k8s.io/kubernetes@v{VERSION}")["GoMod"]).read_text())
    later = f"v0.{VERSION.partition('.')[2]}"
    replaced = "".join(f"\t{name} => {name} {later}\n" for name in sorted(set(staged)))
    with tempfile.TemporaryDirectory(dir=target) as name:
        folder = Path(name)
        (folder / "go.mod").write_text(
            f"module cluster\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v{VERSION}\n\nreplace (\n{replaced})\n"
        )
        imports = "".join(f'\t_ "k8s.io/kubernetes/cmd/{program}"\n' for program in PROGRAMS)
        (folder / "tools.go").write_text(f"//go:build tools\n\npackage cluster\n\nimport (\n{imports})\n")
        major, minor, _ = VERSION.split(".")
        told = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
        flags = " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in told.items())])
        for program in PROGRAMS:
            command = ["build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", program]
            _go([*command, f"k8s.io/kubernetes/cmd/{program}"], folder)
            (folder / program).replace(target / program)


def _download(module: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(_go(["mod", "download", "-json", module], Path(tempfile.gettempdir())))
    return found


def _go(arguments: Sequence[str], folder: Path) -> str:
    go = shutil.which("go")
    if go is None:
        raise KubernetesMissing(f"there is no Kubernetes {VERSION}, and no Go to build it with")
    environment = os.environ | {"CGO_ENABLED": "0"}
    done = subprocess.run([go, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise KubernetesMissing(f"Go could not {' '.join([*arguments[:1], arguments[-1]])}: {reason}")
    return done.stdout
