"""KServe's Python SDK with a model of its own kind. Runs in the environment `kserve` of benchmarks/peers.

Started as `python -m benchmarks.serving.kserve_peer HOST:PORT GRAPH MODEL [REST]`, with the address of REST. Its two
log lines for every call, which are on by default, are turned off.
"""

import sys
from pathlib import Path
from typing import Any

import grpc
import kserve
import kserve.logging
import onnxruntime as ort
import uvicorn
from kserve import InferOutput, InferRequest, InferResponse, ModelServer

REST = 4
"""Place of its address among the arguments."""


class Network(kserve.Model):  # type: ignore[misc]
    """One ONNX graph."""

    def __init__(self, name: str, graph: bytes) -> None:
        super().__init__(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Answer one call."""
        tensor = payload.inputs[0]
        probabilities, label = self.session.run(["probabilities", "label"], {tensor.name: tensor.as_numpy()})
        outputs = []
        for name, datatype, array in (("probabilities", "FP32", probabilities), ("label", "INT64", label)):
            output = InferOutput(name=name, shape=list(array.shape), datatype=datatype)
            # Over REST raw contents are answered to who asks for them.
            output.set_data_from_numpy(array, binary_data=payload.from_grpc)
            outputs.append(output)
        return InferResponse(response_id=payload.id or "1", model_name=self.name, infer_outputs=outputs)


def _only_here(address: str, rest: str) -> None:
    """Keep its servers on this address: the SDK listens on every interface and has no option for it."""
    host, _, port = rest.rpartition(":")
    config: Any = uvicorn.Config
    make, configure = grpc.aio.server, config.__init__

    def server(*arguments: Any, **options: Any) -> Any:
        made: Any = make(*arguments, **options)
        add = made.add_insecure_port
        made.add_insecure_port = lambda _asked: add(address)
        return made

    def configured(self: Any, *arguments: Any, **options: Any) -> None:
        configure(self, *arguments, **(options | {"host": host, "port": int(port)}))

    grpc.aio.server = server
    config.__init__ = configured


if __name__ == "__main__":
    _only_here(sys.argv[1], sys.argv[4] if len(sys.argv) > REST else "127.0.0.1:0")
    kserve.logging.KSERVE_LOG_CONFIG["loggers"]["kserve"]["level"] = "WARNING"
    ModelServer(
        http_port=0, grpc_port=int(sys.argv[1].rpartition(":")[2]), workers=1, enable_latency_logging=False
    ).start([Network(sys.argv[3], Path(sys.argv[2]).read_bytes())])
