"""MLServer with a runtime of its own. Runs in the environment `mlserver` of benchmarks/peers.

Started as `python -m benchmarks.serving.mlserver_peer HOST:PORT GRAPH MODEL FOLDER [REST]`, with the address of REST:
writes MLServer's settings into the folder and becomes it. Without parallel workers, without batching and without
metrics.
"""

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Network(MLModel):  # type: ignore[misc]
    """One ONNX graph."""

    async def load(self) -> bool:
        """Load it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = Path(self.settings.parameters.uri).read_bytes()
        self.session = ort.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one call."""
        tensor = payload.inputs[0]
        array = np.ascontiguousarray(NumpyCodec.decode_input(tensor))
        probabilities, label = self.session.run(["probabilities", "label"], {tensor.name: array})
        outputs = [NumpyCodec.encode_output("probabilities", probabilities), NumpyCodec.encode_output("label", label)]
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(address: str, graph: str, model: str, folder: Path, rest: str = "") -> None:
    """Write the settings and start MLServer."""
    host, _, port = address.rpartition(":")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "host": host,
        "grpc_port": int(port),
        "http_port": int(rest.rpartition(":")[2]) if rest else _free_port(),
        "metrics_endpoint": None,
        "debug": False,
        "parallel_workers": 0,
    }
    described = {
        "name": model,
        "implementation": "benchmarks.serving.mlserver_peer.Network",
        "parameters": {"uri": str(Path(graph).resolve())},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(described))
    server = str(Path(sys.executable).with_name("mlserver"))
    os.execve(server, [server, "start", str(folder)], os.environ | {"PYTHONPATH": str(Path.cwd())})  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
