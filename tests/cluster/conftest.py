"""One control plane for all checks. Outside `make test`: the files are called `check_*.py`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "scripts"), str(HERE)]

import helm  # noqa: E402 - found through the line above
import kubernetes  # noqa: E402
from cluster import Cluster, prepare  # noqa: E402
from control_plane import started  # noqa: E402
from kubelet import Kubelet  # noqa: E402


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three nodes; skipped, with the reason, where a part of it is missing."""
    folder = tmp_path_factory.mktemp("cluster")
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on the path")
    if shutil.which("etcd") is None:
        pytest.skip("there is no etcd on the path, such as Debian's etcd-server")
    try:
        programs, helm_program, definitions = kubernetes.find(), helm.find(), kubernetes.definitions()
    except (kubernetes.KubernetesMissing, helm.HelmMissing) as reason:
        pytest.skip(str(reason))
    with started(programs, folder) as (api, kubeconfig):
        prepare(api, definitions)
        kubelet = Kubelet(api, nodes=3)
        kubelet.start()
        try:
            yield Cluster(api, kubelet, kubeconfig, helm_program, folder)
        finally:
            kubelet.stop()
