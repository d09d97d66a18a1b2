"""The floor: grpc.aio, uvloop, protobuf, numpy and ONNX Runtime, and nothing else.

Started as `python -m benchmarks.serving.floor HOST:PORT GRAPH`. No checks, no versions, no metrics, no traces, no
events, no health: what every Python server of the protocol must do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnxruntime as ort
import uvloop
from headrace import open_inference as oip


async def serve(address: str, graph: bytes) -> None:
    """Answer ModelInfer with one graph until the process is ended."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])

    async def infer(request: Any, _context: Any) -> Any:
        tensor = request.inputs[0]
        array = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tuple(tensor.shape))
        probabilities, label = session.run(["probabilities", "label"], {tensor.name: array})
        answer = oip.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="probabilities", datatype="FP32", shape=probabilities.shape)
        answer.outputs.add(name="label", datatype="INT64", shape=label.shape)
        answer.raw_output_contents.extend([probabilities.tobytes(), label.tobytes()])
        return answer

    method = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=oip.ModelInferRequest.FromString,
        response_serializer=oip.ModelInferResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.SERVICE, {"ModelInfer": method}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2]).read_bytes()))
