"""A plugin of pytest: the cluster that all checks share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import helm
import kubernetes
import pytest
from cluster import Cluster, prepare
from containers import Containers
from control_plane import started
from jobset import controlled
from kubelet import Kubelet


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
        jobset, webhooks = kubernetes.find_jobset(), kubernetes.jobset_webhooks()
    except (kubernetes.KubernetesMissing, helm.HelmMissing) as reason:
        pytest.skip(str(reason))
    with started(programs, folder) as (api, kubeconfig):
        prepare(api, definitions)
        with controlled(jobset, webhooks, api, kubeconfig, folder):
            kubelet = Kubelet(api, nodes=3, runs=Containers(folder))
            kubelet.start()
            try:
                yield Cluster(api, kubelet, kubeconfig, helm_program, folder)
            finally:
                kubelet.stop()
